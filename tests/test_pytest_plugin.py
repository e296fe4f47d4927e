#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""contrib/python/pytest_ttalloc.py; mount-pytest.sh runs this. Each test writes a suite, runs a real pytest on it, and
compares what that says of each of its tests.

Environment: TT_MOUNT, TT_COMPAT, TTALLOC_SOCKET and TT_SERVER (a server's mount, sockets and pid), TTALLOC_LIBRARY,
TT_PRELOAD (what Python needs loaded before a library with sanitizers), TTALLOC_WORKLOAD, TTALLOCD, TMPDIR.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
import xml.etree.ElementTree

TESTS = os.path.dirname(os.path.abspath(__file__))
MODULE = os.path.join(os.path.dirname(TESTS), "contrib", "python")
MOUNT = os.environ["TT_MOUNT"]
sys.path[:0] = [TESTS]

from ttsend import Sender  # noqa: E402
from tools.mount import Mount  # noqa: E402

# What pytest says of each phase of each test, and the words it says it with.
RECORD = '''
import json
def pytest_configure(config):
    config.pluginmanager.register(Recorder(config), "recorder")
class Recorder:
    def __init__(self, config):
        self.config = config
        self.reports = []
    def pytest_runtest_logreport(self, report):
        category = self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0]
        if category or report.sections:
            self.reports.append([report.nodeid.partition("::")[2], report.when, category, str(report.longrepr or ""),
                                 [list(s) for s in report.sections]])
    def pytest_sessionfinish(self):
        with open("%s", "w") as file:
            json.dump(self.reports, file)
'''

# The unmodified client: what it does on the wire.
BEGIN = '''
import gc, os, signal, subprocess, sys, unittest
import pytest
from ttsend import Sender
client = Sender(os.environ["TT_COMPAT"], %d)
pages = iter(range(0x100000, 1 << 40, 0x1000))
def put(size, type="dram", device=0):
    address = next(pages)
    client.alloc(device, type, address, size)
    return address
def take(address, device=0):
    client.free(device, address)
class Tensor:
    def __init__(self, size):
        self.address = put(size)
    def __del__(self):
        take(self.address)
'''


class Result:
    def __init__(self, process, reports, folder):
        self.status = process.returncode
        self.out = process.stdout
        self.folder = folder
        self.outcomes = {}
        self.words = {}
        self.sections = {}
        for test, when, category, words, sections in reports:
            if category:
                self.outcomes[test] = " ".join(filter(None, (self.outcomes.get(test), category)))
            self.words[test] = self.words.get(test, "") + words
            self.sections[test] = [text for name, text in sections if name == "ttalloc"]

    def table(self):
        """{test: (peak, delta, leaked)} of the summary."""
        rows = re.findall(r"^ +(\S+) +(-?\d+) +(\d+)  \S*?::(.*)$", self.out, re.M)
        return {test: (peak, int(delta), int(leaked)) for peak, delta, leaked, test in rows}


class Case(unittest.TestCase):
    maxDiff = None
    dialect = 144

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.mount = Mount(MOUNT)

    def tearDown(self):
        with open(self.mount.join("ctl"), "w") as ctl:
            ctl.write("clean dead\n")
        self.assertEqual(0, self.mount.stat("live_buffers"), "nothing is left for the next test")

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def environment(self, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment.pop("TT_ALLOC_TRACKING_ENABLED", None)
        return {**environment, "PYTHONPATH": MODULE + ":" + TESTS, "TTALLOC_MOUNT": MOUNT, **more}

    def run_pytest(self, text, *options, begin=None, on=("--ttalloc",), plugin=("-p", "pytest_ttalloc"), **environment):
        begin = BEGIN % self.dialect if begin is None else begin
        self.file("test_it.py", begin + textwrap.dedent(text))
        record = os.path.join(self.folder, "record.json")
        self.file("conftest.py", RECORD % record)
        if os.path.exists(record):
            os.unlink(record)
        process = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *on, *options, "test_it.py"],
            cwd=self.folder, env=self.environment(**environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=300)
        reports = []
        if os.path.exists(record):
            with open(record) as file:
                reports = json.load(file)
        self.assertNotIn("INTERNALERROR", process.stdout)
        return Result(process, reports, self.folder)

    def outcomes(self, result, **want):
        self.assertEqual(want, result.outcomes, result.out)

    def refused(self, result, *words):
        """A mistake of whoever called it: pytest's status 4, and a sentence."""
        self.assertEqual(4, result.status, result.out)
        for word in words:
            self.assertIn(word, result.out)
        self.assertNotIn("Traceback", result.out)
        self.assertEqual({}, result.outcomes)


class Outcomes(Case):
    def test_leak(self):
        result = self.run_pytest('''
            def test_clean():
                take(put(1000))
            def test_leak():
                put(4096); put(8192); put(8192); put(100, "l1", 3)
            def test_after():
                take(put(64))
            ''')
        self.outcomes(result, test_clean="passed", test_leak="failed", test_after="passed")
        self.assertEqual(1, result.status)
        pid = r"pid \d+ python3?[0-9.]*"
        self.assertRegex(result.words["test_leak"], "^" + "\n".join((
            "ttalloc: leaks 20580 bytes in 4 buffers",
            "",
            "20480 bytes in 3 buffers, device 0, dram: 2 x 8192, 1 x 4096",
            "    0x000000102000: 8192 bytes, " + pid,
            "    0x000000103000: 8192 bytes, " + pid,
            "    0x000000101000: 4096 bytes, " + pid,
            "",
            "100 bytes in 1 buffer, device 3, l1: 1 x 100",
            "    0x000000104000: 100 bytes, " + pid)) + "$")
        self.assertEqual({"test_leak": ("20580", 20580, 20580), "test_clean": ("1000", 0, 0),
                          "test_after": ("64", 0, 0)}, result.table())
        self.assertIn("3 of 3 tests used device memory, 1 leaked 20580 bytes", result.out)

    def test_all_dialects(self):
        result = self.run_pytest('''
            @pytest.mark.parametrize("dialect", [72, 112, 128])
            @pytest.mark.parametrize("leaks", [0, 1])
            def test_dialect(dialect, leaks):
                address = next(pages)
                sender = Sender(os.environ["TT_COMPAT"], dialect)
                sender.alloc(0, "l1", address, 5)
                if not leaks: sender.free(0, address)
                sender.close()
            ''')
        self.outcomes(result, **{"test_dialect[%d-%d]" % (leaks, dialect): ("passed", "failed")[leaks]
                                 for leaks in (0, 1) for dialect in (72, 112, 128)})

    def test_many_places(self):
        result = self.run_pytest('''
            def test_leak():
                for device in range(12):
                    put(64 + device, device=device)
            ''')
        self.assertEqual(10, len(re.findall(r"^\d+ bytes in 1 buffer, device", result.words["test_leak"], re.M)))
        self.assertIn("\n\nand 129 bytes from 2 more places", result.words["test_leak"])

    def test_that_fails_by_itself(self):
        result = self.run_pytest('''
            def test_fails():
                held = Tensor(500)
                assert held is None, "its own words"
            def test_fails_and_leaks():
                put(700)
                assert 1 == 2, "its own words"
            @pytest.fixture
            def broken():
                put(800)
                raise ValueError("its own words")
            def test_setup_fails_and_leaks(broken): pass
            @pytest.fixture
            def broken_end():
                put(900)
                yield
                raise ValueError("its own words")
            def test_teardown_fails_and_leaks(broken_end): pass
            class TestCase(unittest.TestCase):
                def test_fails_and_leaks(self):
                    put(1000)
                    self.assertEqual(1, 2, "its own words")
            ''')
        self.outcomes(result, test_fails="failed", test_fails_and_leaks="failed", test_setup_fails_and_leaks="error",
                      test_teardown_fails_and_leaks="failed error", **{"TestCase::test_fails_and_leaks": "failed"})
        for test, size in (("test_fails_and_leaks", 700), ("test_setup_fails_and_leaks", 800),
                           ("TestCase::test_fails_and_leaks", 1000)):
            self.assertIn("its own words", result.words[test])
            self.assertEqual(["ttalloc: leaks %d bytes in 1 buffer" % size],
                             [text.splitlines()[0] for text in result.sections[test]])
        self.assertEqual([], result.sections["test_fails"])
        self.assertIn("ttalloc: leaks 900 bytes", result.words["test_teardown_fails_and_leaks"])
        self.assertIn("its own words", result.words["test_teardown_fails_and_leaks"])
        self.assertIn("-- ttalloc --", result.out)

    def test_xfail_and_skip(self):
        result = self.run_pytest('''
            @pytest.mark.xfail
            def test_expected_and_leaks():
                put(1)
                assert False
            @pytest.mark.xfail(reason="leaks")
            def test_leak_is_expected(): put(1)
            @pytest.mark.xfail(strict=True, reason="leaks")
            def test_leak_is_strictly_expected(): put(1)
            @pytest.mark.xfail(raises=KeyError)
            def test_other_expected(): put(1)
            @pytest.mark.xfail
            def test_unexpected(): take(put(1))
            def test_skips(): pytest.skip("x")
            def test_skips_and_leaks():
                put(1)
                pytest.skip("x")
            ''')
        self.outcomes(result, test_expected_and_leaks="xfailed", test_leak_is_expected="xfailed",
                      test_leak_is_strictly_expected="xfailed", test_other_expected="failed",
                      test_unexpected="xpassed", test_skips="skipped", test_skips_and_leaks="failed")

    def test_what_is_freed_late(self):
        result = self.run_pytest('''
            @pytest.fixture
            def freed():
                address = put(64)
                yield
                take(address)
            @pytest.fixture
            def kept():
                put(65)
            def test_freed_by_its_fixture(freed): pass
            def test_fixture_leaks(kept): pass
            def test_garbage():
                gc.disable()
                held = [Tensor(66)]
                held.append(held)
            def test_parametrised(request): pass
            @pytest.mark.parametrize("size", [0, 67])
            def test_one_of_two(size):
                if size: put(size)
            class TestCase(unittest.TestCase):
                @classmethod
                def setUpClass(cls): cls.address = put(10000)
                @classmethod
                def tearDownClass(cls): take(cls.address)
                def setUp(self): self.mine = put(1)
                def tearDown(self): take(self.mine)
                def test_a(self): pass
                def test_b(self): put(68)
            ''')
        self.outcomes(result, test_freed_by_its_fixture="passed", test_fixture_leaks="failed", test_garbage="passed",
                      test_parametrised="passed", **{"test_one_of_two[0]": "passed", "test_one_of_two[67]": "failed",
                                                     "TestCase::test_a": "passed", "TestCase::test_b": "failed"})
        for test, size in (("test_fixture_leaks", 65), ("test_one_of_two[67]", 67), ("TestCase::test_b", 68)):
            self.assertIn("ttalloc: leaks %d bytes in 1 buffer\n" % size, result.words[test])

    def test_fixtures_of_larger_scopes(self):
        result = self.run_pytest('''
            @pytest.fixture(scope="session")
            def for_ever():
                put(1 << 20)
            @pytest.fixture(scope="module")
            def model(request):
                take(put(1 << 25))
                request.getfixturevalue("for_ever")
                address = put(1 << 24)
                yield
                take(address)
            @pytest.fixture(scope="class", params=[1, 2])
            def leaky(request):
                put(1000 * request.param)
            @pytest.fixture(scope="module")
            def broken():
                put(50)
                raise KeyError
            def test_triggers(model): pass
            def test_triggers_and_leaks(model): put(1)
            class TestClass:
                def test_a(self, leaky): put(7)
                def test_b(self, leaky): pass
            def test_of_broken(broken): pass
            def test_dynamic(request): request.getfixturevalue("model")
            ''')
        self.outcomes(result, test_triggers="passed", test_of_broken="error", test_triggers_and_leaks="failed",
                      test_dynamic="passed error", **{"TestClass::test_a[1]": "failed", "TestClass::test_b[1]": "passed",
                         "TestClass::test_a[2]": "failed error", "TestClass::test_b[2]": "passed error"})
        self.assertIn("leaks 1 bytes in 1 buffer\n", result.words["test_triggers_and_leaks"])
        # with another parameter pytest ends a fixture when the next test needs it
        for test, size in ("TestClass::test_a[2]", 1000), ("TestClass::test_b[2]", 2000):
            self.assertRegex(result.words[test], r"leaks %d bytes in 1 buffer\n[^T]*\n\n"
                             "They are of test_it.py::fixture:leaky, which has ended.$" % size)
        words = result.words["test_dynamic"]
        self.assertIn("1048576 bytes in 1 buffer", words)
        self.assertIn("They are of test_it.py::fixture:for_ever,", words)
        self.assertIn("They are of test_it.py::fixture:broken,", words)
        self.assertEqual({"test_triggers_and_leaks": ("1", 1, 1), "TestClass::test_a[1]": ("7", 7, 7),
                          "TestClass::test_a[2]": ("7", 7, 7)}, result.table())

    def test_marker(self):
        result = self.run_pytest('''
            @pytest.mark.ttalloc(allow=100)
            def test_allowed(): put(60); put(40)
            @pytest.mark.ttalloc(allow=100)
            def test_too_much(): put(60); put(41)
            @pytest.mark.ttalloc(skip=True)
            def test_not_looked_at(): put(1 << 30)
            @pytest.mark.ttalloc(devices=[1, 2])
            def test_other_device(): put(1, device=0)
            @pytest.mark.ttalloc(devices=1)
            def test_that_device(): put(1, device=1); put(1, device=0)
            @pytest.mark.ttalloc(suppress="python")
            def test_suppressed(): put(1)
            @pytest.mark.ttalloc(allow=5, devices=(7,))
            class TestClass:
                def test_outer(self): put(5)
                @pytest.mark.ttalloc(devices=0)
                def test_inner(self): put(6)
                @pytest.mark.ttalloc(devices=0)
                def test_both(self): put(5)
            ''')
        self.outcomes(result, test_allowed="passed", test_too_much="failed", test_not_looked_at="passed",
                      test_other_device="passed", test_that_device="failed", test_suppressed="passed",
                      **{"TestClass::test_outer": "passed", "TestClass::test_inner": "failed",
                         "TestClass::test_both": "passed"})
        self.assertIn("leaks 101 bytes in 2 buffers", result.words["test_too_much"])
        self.assertIn("leaks 1 bytes in 1 buffer\n\n1 bytes in 1 buffer, device 1,", result.words["test_that_device"])

    def test_min_size(self):
        self.outcomes(self.run_pytest("def test_small():\n for i in range(9): put(99)\ndef test_large(): put(100)",
                                      "--ttalloc-min-size=100"), test_small="passed", test_large="failed")

    def test_others_do_not_count(self):
        """Another program on the same server, which allocates while the test runs."""
        ask, answer = (os.path.join(self.folder, name) for name in ("ask", "answer"))
        fifos = []
        for name in ask, answer:
            os.mkfifo(name)
            fifos.append(os.open(name, os.O_RDWR))  # does not wait for anybody, nor end
        other = Sender(os.environ["TT_COMPAT"], 144)

        def obey():
            while os.read(fifos[0], 100) == b"go\n":
                other.alloc(0, "dram", 0x5000, 1 << 30)
                os.write(fifos[1], b"done\n")

        thread = threading.Thread(target=obey)
        thread.start()
        result = self.run_pytest('''
            def test_beside():
                with open(%r, "w") as ask, open(%r) as answer:
                    print("go", file=ask, flush=True)
                    assert answer.readline() == "done\\n"
                take(put(77))
            ''' % (ask, answer))
        os.write(fifos[0], b"end\n")
        thread.join()
        for fifo in fifos:
            os.close(fifo)
        self.assertEqual(1 << 30, self.mount.stat("live_bytes"), "the other one did allocate")
        other.free(0, 0x5000)
        other.close()
        self.outcomes(result, test_beside="passed")
        self.assertEqual({"test_beside": ("77", 0, 0)}, result.table())


class Growth(Case):
    def test_growth(self):
        result = self.run_pytest('''
            @pytest.fixture
            def pool():
                held = []
                yield held
                for address in held: take(address)
            pytestmark = pytest.mark.ttalloc(repeat=5)
            runs = iter(range(1000))
            noise, cache, newest, two = [], [], [], []
            def test_grows():
                # comes and goes, some of it in the size of the leak and over several runs
                while noise and len(noise) > next(runs) % 3: take(noise.pop())
                noise.extend([put(64), put(1 << 20)])
                for size in range(1, 200): take(put(size))
                put(64)
            def test_ends_noise():
                while noise: take(noise.pop())
            def test_cache():
                if not cache: cache.append(put(1 << 20))
            def test_replaces():
                if newest: take(newest.pop())
                newest.append(put(4096))
            def test_keeps_two():
                two.append(put(4096))
                if len(two) > 2: take(two.pop(0))
            def test_freed_by_its_fixture(pool):
                pool.append(put(512))
            @pytest.mark.ttalloc(allow=1 << 20)
            def test_allowance_is_for_caches(): put(64)
            @pytest.mark.ttalloc(suppress="python")
            def test_suppressed(): put(64)
            count = []
            def test_fails_in_the_third():
                put(64)
                count.append(1)
                assert len(count) != 3
            @pytest.mark.ttalloc(repeat=1)
            def test_once():
                count.append(1)
            def test_how_often():
                count.append(1)
                if len(count) == 9: put(64)
            def test_counted():
                if len(count) == 9: put(64)
            class TestCase(unittest.TestCase):
                def setUp(self): self.address = put(1)
                def tearDown(self): take(self.address)
                def test_grows(self): put(64)
            ''', "--ttalloc-min-size=2")
        self.outcomes(result, test_grows="failed", test_ends_noise="passed", test_cache="passed",
                      test_replaces="passed", test_keeps_two="passed", test_freed_by_its_fixture="passed",
                      test_allowance_is_for_caches="failed", test_suppressed="passed",
                      test_fails_in_the_third="failed", test_once="passed", test_how_often="passed",
                      test_counted="failed", **{"TestCase::test_grows": "failed"})
        self.assertEqual([], result.sections["test_fails_in_the_third"])
        words = result.words["TestCase::test_grows"]
        self.assertRegex(words, "^ttalloc: grows by 64 bytes with each run: the runs after the first left 256 bytes in "
                                "4 buffers\n\n256 bytes in 4 buffers, device 0, dram: 4 x 64\n"
                                "    64 bytes with each run\n")
        self.assertIn("\n    and 1 more", words)
        self.assertEqual("1048576", result.table()["test_cache"][0])

    def test_three_runs_for_all(self):
        for where in "option", "ini":
            with self.subTest(where):
                self.file("pytest.ini", "[pytest]\nttalloc_repeat = 3\n" if where == "ini" else "[pytest]\n")
                result = self.run_pytest('''
                    kept = []
                    def test_grows(): put(64)
                    def test_cache():
                        if not kept: kept.append(put(1))
                    ''', *(["--ttalloc-repeat=3"] if where == "option" else []))
                self.outcomes(result, test_grows="failed", test_cache="passed")

    def test_two_runs_tell_nothing(self):
        self.refused(self.run_pytest("def test_a(): pass", "--ttalloc-repeat=2"), "--ttalloc-repeat", "at least 3")
        self.refused(self.run_pytest("@pytest.mark.ttalloc(repeat=2)\ndef test_a(): pass"),
                     "test_it.py::test_a", "at least 3")


CHILD = '''
def child(*steps):
    text = "import os; from ttsend import Sender; s = Sender(os.environ['TT_COMPAT'], 144);" + ";".join(steps)
    return [sys.executable, "-c", text]
die = "os.kill(os.getpid(), 9)"
# An answer of the server means that it has seen who asks: without, it can end before the server looks at its name.
seen = "os.listdir(os.environ['TTALLOC_MOUNT'])"
'''


class Children(Case):
    def test_children(self):
        result = self.run_pytest('''
            def test_dies():
                assert subprocess.run(child("s.alloc(0, 'dram', 1, 100)", seen, die)).returncode == -9
            def test_exits_with_its_buffers():
                subprocess.run(child("s.cb(2, 1, 200)", seen))
            def test_frees():
                subprocess.run(child("s.alloc(0, 'l1', 1, 300)", "s.free(0, 1)"))
            def test_of_a_shell():
                subprocess.run(["sh", "-c", '"$@"; true', "sh", *child("s.alloc(0, 'l1', 1, 400)", seen, die)])
            def test_fork():
                if os.fork() == 0:
                    Sender(os.environ["TT_COMPAT"], 72).alloc(0, "dram", 1, 500)
                    eval(seen)
                    os._exit(0)
                os.wait()
            def test_after(): pass
            @pytest.fixture(scope="module")
            def server():
                p = subprocess.Popen(child("s.alloc(0, 'dram', 1, 600)", "print('ready', flush=True)", "input()",
                                           "s.alloc(0, 'dram', 2, 50)", "print('more', flush=True)", "input()"),
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                p.stdout.readline()
                yield p
                p.communicate(b"\\n")
            def test_living(server): pass
            def test_makes_it_leak(server):
                server.stdin.write(b"\\n")
                server.stdin.flush()
                server.stdout.readline()
            ''', begin=BEGIN % 144 + CHILD)
        self.outcomes(result, test_dies="failed", test_exits_with_its_buffers="failed", test_frees="passed",
                      test_of_a_shell="failed", test_fork="failed", test_after="passed", test_living="passed",
                      test_makes_it_leak="failed error")
        for test, size, place in (("test_dies", 100, "0, dram"), ("test_exits_with_its_buffers", 200, "2, cb"),
                                  ("test_of_a_shell", 400, "0, l1"), ("test_fork", 500, "0, dram")):
            self.assertRegex(result.words[test], r"^ttalloc: leaks %d bytes in 1 buffer\n\n.* device %s: .*\n"
                                                 r"    0x000000000001: .*, pid \d+ python.*, died$" % (size, place))
        self.assertIn("leaks 50 bytes", result.words["test_makes_it_leak"])
        self.assertIn("leaks 600 bytes", result.words["test_makes_it_leak"])
        self.assertEqual(("300", 0, 0), result.table()["test_frees"])

    def test_ends_unseen(self):
        """The server was not there to look when it ended: whose child it was can only be guessed."""
        result = self.run_pytest('''
            def test_dies():
                os.kill(int(os.environ["TT_SERVER"]), signal.SIGSTOP)
                try:
                    subprocess.run(child("s.alloc(0, 'dram', 1, 100)", die))
                finally:
                    os.kill(int(os.environ["TT_SERVER"]), signal.SIGCONT)
            def test_after(): pass
            ''', begin=BEGIN % 144 + CHILD)
        self.outcomes(result, test_dies="failed", test_after="passed")
        self.assertRegex(result.words["test_dies"],
                         r"^ttalloc: leaks 100 bytes in 1 buffer\n\n100 bytes in 1 buffer, device 0, dram: 1 x 100\n"
                         r"    0x000000000001: 100 bytes, pid \d+ -, died$")
        self.assertIn("Nothing was reported.", self.run_pytest("def test_a(): pass", begin="").out)

    def test_pytest_itself_dies(self):
        first = self.run_pytest("def test_dies():\n put(100)\n os.kill(os.getpid(), signal.SIGSEGV)")
        self.assertEqual(-signal.SIGSEGV, first.status)
        self.assertEqual(1, self.mount.stat("suspects"))
        self.outcomes(self.run_pytest("def test_a(): take(put(1))\ndef test_b(): put(2)"),
                      test_a="passed", test_b="failed")


class Library(Case):
    """libttalloc: tags, and call sites with names."""

    BEGIN = "import os, subprocess, ttalloc\n"

    def run_library(self, text, *options):
        more = {}
        if "TT_PRELOAD" in os.environ:
            more.update(LD_PRELOAD=os.environ["TT_PRELOAD"], ASAN_OPTIONS="detect_leaks=0")
        return self.run_pytest(text, *options, begin=self.BEGIN, **more)

    LEAKS = '''
        def test_leak():
            with ttalloc.tag("layers 3"):
                ttalloc.alloc(0, "dram", 0x1000, 64)
                ttalloc.alloc(0, "dram", 0x2000, 64)
            ttalloc.alloc(0, "dram", 0x3000, 64)
        def test_frees():
            ttalloc.alloc(0, "dram", 0x4000, 99)
            ttalloc.free(0, 0x4000)
        def test_workload():
            subprocess.run([os.environ["TTALLOC_WORKLOAD"], "--steps", "3", "--leak", "2"], check=True)
        '''

    def test_places(self):
        result = self.run_library(self.LEAKS)
        self.outcomes(result, test_leak="failed", test_frees="passed", test_workload="failed")
        self.assertEqual(["2 buffers, device 0, dram: 2 x 64\n    tag layers%203",
                          "1 buffer, device 0, dram: 1 x 64\n    site"],
                         re.findall(r"bytes in (.*\n    (?:tag \S+|site))", result.words["test_leak"]))
        words = result.words["test_workload"]
        self.assertRegex(words, r"(?m)^    site [0-9a-f]{16}\n(        [a-z_]+@\S+\.c:\d+\n)+")
        self.assertRegex(words, r"(?m)^        main@workload\.c:\d+$")
        self.assertEqual(("99", 0, 0), result.table()["test_frees"])

    def test_suppressions(self):
        rules = {"^main$": True, "/ttalloc-workload$": True, "^workload.c:": True, "^ttalloc-w*oa$": True,
                 "^scratch$": True, "a*n*@": True, "^scratc$": False, "ain$": True, "nothing": False, "m.in": False}
        result = self.run_library('''
            import pytest
            @pytest.mark.parametrize("rule", [pytest.param(r, marks=pytest.mark.ttalloc(suppress=r)) for r in %r])
            def test_rule(rule):
                subprocess.run([os.environ["TTALLOC_WORKLOAD"], "--steps", "3", "--leak", "2"], check=True)
            def test_file():
                with ttalloc.tag("layers 3"): ttalloc.alloc(0, "dram", 0x1000, 64)
            ''' % list(rules), "--ttalloc-suppressions", self.file("rules", "# words\n\nleak:^layers 3$ # why\n"))
        self.outcomes(result, test_file="passed", **{"test_rule[%s]" % rule: "passed" if passes else "failed"
                                                     for rule, passes in rules.items()})

    def test_a_baseline_of_ttalloc_run(self):
        """All that Python allocates comes from one call site: its line is for all tags, if it has none itself."""
        tests = '''
            def put(size): ttalloc.alloc(0, "dram", 0x1000 * size, size)
            def test_a():
                with ttalloc.tag("a b"): put(64)
            def test_b():
                with ttalloc.tag("b"): put(65)
            def test_none(): put(66)
            '''
        site = re.search(r"site (\w+)", self.run_library(tests).words["test_none"]).group(1)
        for known, passed in (("/a%20b", "a"), ("/b", "b"), ("/-", "none"), ("/c", ""), ("", "a b none")):
            path = self.file("known", "%s/dram%s 1 66 put,main\n" % (site, known))
            self.outcomes(self.run_library(tests, "--ttalloc-baseline", path),
                          **{"test_" + name: "passed" if name in passed.split() else "failed"
                             for name in ("a", "b", "none")})

    def test_the_servers_suppressions(self):
        path = self.mount.join("options", "suppressions")
        if not os.path.exists(path):
            self.skipTest("this server has none")
        with open(path, "w") as file:
            file.write("leak:^layers\n")
        try:
            result = self.run_library(self.LEAKS)
        finally:
            with open(path, "w") as file:
                file.write("\n")
        self.assertEqual(["1 buffer, device 0, dram: 1 x 64\n    site"],
                         re.findall(r"bytes in (.*\n    (?:tag \S+|site))", result.words["test_leak"]))

    def test_baseline(self):
        path = os.path.join(self.folder, "known")
        result = self.run_library(self.LEAKS, "--ttalloc-baseline", path, "--ttalloc-baseline-update")
        self.outcomes(result, test_leak="passed", test_frees="passed", test_workload="passed")
        with open(path) as file:
            lines = file.read().splitlines()
        self.assertEqual("# test device type where count bytes", lines[1])
        self.assertIn("test_it.py::test_leak 0 dram layers%203 2 128", lines)
        self.assertRegex("\n".join(lines), r"(?m)^test_it.py::test_workload 0 \S+ \S+ [12] \d+$")
        passes = self.run_library(self.LEAKS, "--ttalloc-baseline", path)
        self.outcomes(passes, test_leak="passed", test_frees="passed", test_workload="passed")
        more = self.run_library(self.LEAKS.replace("0x2000, 64", "0x2000, 65"), "--ttalloc-baseline", path)
        self.outcomes(more, test_leak="failed", test_frees="passed", test_workload="passed")
        self.assertIn("ttalloc: leaks 129 bytes in 2 buffers\n", more.words["test_leak"])

    # What Python, but not the mount, takes for blanks and ends of lines, and what begins a comment.
    ODD = ("a\u2028b", "a\x85b", "a\x1cb", "a\u3000b", "a\xa0b", "#1", "# 1")

    def test_odd_names(self):
        tests = '''
            import ctypes, pytest
            ctypes.CDLL(None).prctl(15, b"a\\xe2\\x80\\xa8b")
            @pytest.mark.parametrize("number,tag", enumerate(%s))
            def test_tag(number, tag):
                with ttalloc.tag(tag): ttalloc.alloc(0, "dram", 0x1000 + number, 64)
            def test_comm():
                ttalloc.alloc(0, "dram", 0x2000, 64)
            ''' % ascii(self.ODD)
        known = os.path.join(self.folder, "known")
        result = self.run_library(tests)
        self.assertEqual({"failed"}, set(result.outcomes.values()), result.out)
        self.assertEqual(len(self.ODD) + 1, len(result.outcomes))
        self.assertRegex(result.words["test_comm"], r"\n    0x000000002000: 64 bytes, pid \d+ a%E2%80%A8b")
        self.run_library(tests, "--ttalloc-baseline", known, "--ttalloc-baseline-update")
        result = self.run_library(tests, "--ttalloc-baseline", known)
        self.assertEqual({"passed"}, set(result.outcomes.values()), result.out)


class BaselineFile(Case):
    LEAKS = '''
        @pytest.mark.parametrize("name", ["a b"])
        def test_leak(name): put(64); put(64)
        def test_other(): put(10, "l1", 2)
        @pytest.mark.ttalloc(allow=10)
        def test_allowed(): put(10, "l1", 2)
        @pytest.fixture(scope="module")
        def leaky(): put(1000)
        def test_with(leaky): pass
        @pytest.mark.ttalloc(repeat=3)
        def test_grows(): put(64)
        '''
    ALL = {"test_leak[a b]": "passed", "test_other": "passed", "test_allowed": "passed", "test_with": "passed",
           "test_grows": "passed"}
    KNOWN = ["test_it.py::fixture:leaky 0 dram - 1 1000", "test_it.py::test_grows 0 dram - 1 64",
             "test_it.py::test_leak[a%20b] 0 dram - 2 128", "test_it.py::test_other 2 l1 - 1 10"]

    def lines(self, path):
        with open(path) as file:
            return [line for line in file.read().splitlines() if not line.startswith("#")]

    def test_update_and_use(self):
        path = self.file("known", "test_it.py::test_gone 0 dram - 5 5\ntest_it.py::test_other 0 dram - 9 9\n"
                                  "device5/l1/64..127 3 4 # from `ttalloc run`\n"
                                  "0123456789abcdef/l1/tag 3 4 make,main # too\n")
        os.chmod(path, 0o640)
        kept = ["0123456789abcdef/l1/tag 3 4 make,main", "device5/l1/64..127 3 4", "test_it.py::test_gone 0 dram - 5 5"]
        result = self.run_pytest(self.LEAKS, "--ttalloc-baseline", path, "--ttalloc-baseline-update")
        self.outcomes(result, **self.ALL)
        self.assertEqual(sorted(self.KNOWN + kept), self.lines(path))
        self.assertEqual(0o640, os.stat(path).st_mode & 0o777)
        self.outcomes(self.run_pytest(self.LEAKS, "--ttalloc-baseline", path), **self.ALL)
        # more buffers; more bytes; more with each run
        more = self.LEAKS.replace("put(64); put(64)", "put(64); put(32); put(32)").replace("put(10,", "put(11,")
        more = more.replace("test_grows(): put(64)", "test_grows(): put(65)")
        self.outcomes(self.run_pytest(more, "--ttalloc-baseline", path),
                      **{**dict.fromkeys(self.ALL, "failed"), "test_with": "passed"})
        result = self.run_pytest(self.LEAKS.replace("put(1000)", "put(1001)").replace('"l1"', '"trace"'),
                                 "--ttalloc-baseline", path)
        # the fixture ended with the last test
        self.outcomes(result, **{**self.ALL, "test_other": "failed", "test_grows": "passed error"})

    def test_update_when_nothing_reports(self):
        path = self.file("known", "test_it.py::test_a 0 dram - 1 64\n")
        result = self.run_pytest("def test_a(): pass", "--ttalloc-baseline", path, "--ttalloc-baseline-update", begin="")
        self.outcomes(result, test_a="passed")
        self.assertIn("known: not written\n", result.out)
        self.assertEqual(["test_it.py::test_a 0 dram - 1 64"], self.lines(path))

    def test_of_the_ini_file(self):
        self.file("pytest.ini", "[pytest]\nttalloc = true\nttalloc_baseline = known\nttalloc_baseline_update = true\n")
        self.outcomes(self.run_pytest(self.LEAKS, on=()), **self.ALL)
        self.assertEqual(self.KNOWN, self.lines(os.path.join(self.folder, "known")))

    def test_of_ttalloc_run(self):
        path = self.file("known", "# comment\ndevice0/dram/64..127 2 200\n")
        result = self.run_pytest('''
            def test_known(): put(64); put(127)
            def test_one_more(): put(64); put(64); put(64)
            def test_more_bytes(): put(127); put(127)
            def test_also_in_another_class(): put(64); put(128)
            ''', "--ttalloc-baseline", path)
        self.outcomes(result, test_known="passed", test_one_more="failed", test_more_bytes="failed",
                      test_also_in_another_class="failed")

    def test_mistakes(self):
        ok = "def test_a(): pass"
        for text in "test_a 0 dram - 1 x", "a b 1 2", "a 1", "a 1 2 3 4":
            self.refused(self.run_pytest(ok, "--ttalloc-baseline", self.file("known", "\n%s\n" % text)), "line 2")
        self.refused(self.run_pytest(ok, "--ttalloc-baseline=/no/such"), "/no/such")
        self.refused(self.run_pytest(ok, "--ttalloc-baseline-update"), "--ttalloc-baseline")
        self.refused(self.run_pytest(ok, "--ttalloc-baseline=/no/such", "--ttalloc-baseline-update"), "write in /no")
        self.refused(self.run_pytest(ok, "--ttalloc-suppressions=/no/such"), "/no/such")
        self.refused(self.run_pytest(ok, "--ttalloc-suppressions", self.file("rules", "race:x\n")), "line 1", "race:x")


class Use(Case):
    LEAK = "def test_leak(): put(64)"

    def test_off(self):
        result = self.run_pytest('''
            def test_leak():
                put(64)
                assert "TT_ALLOC_TRACKING_ENABLED" not in os.environ
            def test_fixture(ttalloc): assert False
            @pytest.mark.ttalloc(allow=1)
            def test_marked(): pass
            ''', "--strict-markers", on=(), TTALLOC_MOUNT="/no/such")
        self.outcomes(result, test_leak="passed", test_fixture="skipped", test_marked="passed")
        self.assertNotIn("ttalloc:", result.out)

    def test_no_server(self):
        plain = tempfile.mkdtemp(dir=self.folder)
        for mount in "/no/such", plain:
            self.refused(self.run_pytest(self.LEAK, "--ttalloc-mount", mount), "no ttalloc server at " + mount,
                         "Start ttallocd")
        self.file("pytest.ini", "[pytest]\nttalloc_mount = /no/such\n")
        self.refused(self.run_pytest(self.LEAK), "no ttalloc server at /no/such")

    def test_mistakes_of_a_marker(self):
        for arguments in "5", "size=5":
            result = self.run_pytest("@pytest.mark.ttalloc(%s)\ndef test_a(): pass" % arguments)
            self.refused(result, "test_it.py::test_a", "allow, repeat, skip, devices, suppress")
        self.refused(self.run_pytest(self.LEAK, "--ttalloc-repeat=x"), "--ttalloc-repeat")
        self.file("pytest.ini", "[pytest]\nttalloc_min_size = 1k\n")
        self.refused(self.run_pytest(self.LEAK), "ttalloc_min_size", "1k")

    def test_figures(self):
        path = os.path.join(self.folder, "junit.xml")
        result = self.run_pytest('''
            def test_peak():
                held = [put(100) for _ in range(5)]
                for address in held[1:]: take(address)
                client.alloc(0, "dram", held[0], 3000)
                take(held[0]); take(held[0])
            def test_leak(): put(7); take(put(3))
            def test_frees_earlier(): take(0x105000)
            def test_nothing(): pass
            ''', "--junitxml", path, "--ttalloc-top=2")
        self.outcomes(result, test_peak="passed", test_leak="failed", test_frees_earlier="passed",
                      test_nothing="passed")
        properties = {case.get("name"): {p.get("name"): int(p.get("value")) for p in case.iter("property")}
                      for case in xml.etree.ElementTree.parse(path).iter("testcase")}

        def figures(*values):
            return dict(zip(("ttalloc_peak", "ttalloc_delta", "ttalloc_leaked"), values))
        self.assertEqual({"test_peak": figures(3000, 0, 0), "test_leak": figures(10, 7, 7),
                          "test_frees_earlier": figures(0, -7, 0), "test_nothing": figures(0, 0, 0)}, properties)
        self.assertEqual({"test_peak": ("3000", 0, 0), "test_leak": ("10", 7, 7)}, result.table())
        self.assertIn("3 of 4 tests used device memory, 1 leaked 7 bytes", result.out)

    def test_nothing_reported(self):
        result = self.run_pytest("def test_a(): pass", begin="")
        self.outcomes(result, test_a="passed")
        self.assertIn("Nothing was reported.", result.out)
        self.assertNotIn("Nothing was reported.", self.run_pytest("def test_a(): take(put(1))").out)

    def test_fixture(self):
        result = self.run_pytest('''
            @pytest.fixture(autouse=True)
            def before():
                address = put(1000)
                yield
                take(address)
            def test_fixture(ttalloc):
                assert (ttalloc.delta(), ttalloc.peak(), ttalloc.exact()) == (1000, 1000, True)
                a = put(50)
                first = ttalloc.mark()
                b = put(7, "l1", 3)
                second = first.mark()
                take(a)
                take(put(500))
                assert (second.delta(), second.peak(), second.held()) == (-50, 450, [])
                assert (first.delta(), first.peak(), ttalloc.delta(), ttalloc.peak()) == (-43, 457, 1007, 1507)
                held, = first.held()
                assert held[:5] == (3, "l1", b, 7, 1) and held.pid == os.getpid()
                assert len(ttalloc.held()) == 2
                take(b, 3)
            def test_leak(ttalloc):
                put(1)
            ''')
        self.outcomes(result, test_fixture="passed", test_leak="failed")
        self.assertEqual({"test_fixture": ("1507", 0, 0), "test_leak": ("1001", 1, 1)}, result.table())

    def test_more_than_trace_holds(self):
        option = self.mount.join("options", "trace_events")
        with open(option) as file:
            before = file.read()
        with open(option, "w") as file:
            file.write("16")
        try:
            result = self.run_pytest('''
                def test_a(ttalloc):
                    take(put(5000))
                    held = [put(10) for _ in range(100)]
                    assert ttalloc.peak() >= 1000 and not ttalloc.exact()
                    for address in held: take(address)
                def test_b(): put(7)
                ''')
        finally:
            with open(option, "w") as file:
                file.write(before)
        self.outcomes(result, test_a="passed", test_b="failed")
        self.assertEqual({"test_a": (">=1000", 0, 0), "test_b": ("7", 7, 7)}, result.table())

    def test_xdist(self):
        path = os.path.join(self.folder, "known")
        text = '''
            @pytest.mark.parametrize("number", range(6))
            def test_leak(number): put(64 + number)
            def test_ok(): take(put(1))
            @pytest.fixture(scope="session", autouse=True)
            def leaky(): put(1000)
            '''
        want = {"test_leak[%d]" % i: "failed" for i in range(6)}
        result = self.run_pytest(text, "-n2", "--dist=load")
        errors = [test for test, outcome in result.outcomes.items() if "error" in outcome]
        self.assertEqual(2, len(errors), "the session fixture of each worker")
        self.assertEqual({**want, "test_ok": "passed"},
                         {test: outcome.replace(" error", "") for test, outcome in result.outcomes.items()}, result.out)
        for i in range(6):
            self.assertIn("ttalloc: leaks %d bytes in 1 buffer\n" % (64 + i), result.words["test_leak[%d]" % i])
        self.assertEqual({**{"test_leak[%d]" % i: (str(64 + i), 64 + i, 64 + i) for i in range(6)},
                          "test_ok": ("1", 0, 0)}, result.table())
        result = self.run_pytest(text, "-n2", "--ttalloc-baseline", path, "--ttalloc-baseline-update")
        self.assertEqual({"passed"}, set(result.outcomes.values()), result.out)
        with open(path) as file:
            self.assertIn("test_it.py::fixture:leaky 0 dram - 1 1000\ntest_it.py::test_leak[0] 0 dram - 1 64\n",
                          file.read())
        self.assertEqual({"passed"}, set(self.run_pytest(text, "-n2", "--ttalloc-baseline", path).outcomes.values()))

    def test_installed(self):
        """As pip does it: found by its entry point, with and without -p."""
        folder = os.path.join(self.folder, "site")
        info = os.path.join(folder, "ttalloc-1.dist-info")
        os.makedirs(info)
        shutil.copy(os.path.join(MODULE, "pytest_ttalloc.py"), folder)
        with open(os.path.join(MODULE, "pyproject.toml")) as file:
            point = re.search(r'entry-points.pytest11]\n(\S+) = "(\S+)"', file.read())
        with open(os.path.join(info, "entry_points.txt"), "w") as file:
            file.write("[pytest11]\n%s = %s\n" % point.groups())
        with open(os.path.join(info, "METADATA"), "w") as file:
            file.write("Metadata-Version: 2.1\nName: ttalloc\nVersion: 1\n")
        for plugin in (), ("-p", "pytest_ttalloc"):
            result = self.run_pytest(self.LEAK, plugin=plugin, PYTHONPATH=folder + ":" + TESTS)
            self.outcomes(result, test_leak="failed")

    def test_server_goes(self):
        """Another server, which ends in a test, and one that is started anew in its place."""
        mount, socket = os.path.join(self.folder, "mnt"), os.path.join(self.folder, "sock")
        os.mkdir(mount)
        start = [os.environ["TTALLOCD"], "--mount", mount, "--socket", socket, "--compat-socket", "none"]
        subprocess.run(start, check=True, stdin=subprocess.DEVNULL)
        end = '''
            import json
            sys.path.append(%r)
            def end():
                pid = int(open(%r).read().split()[5])
                fd = os.pidfd_open(pid)
                os.kill(pid, signal.SIGTERM)
                import select
                select.select([fd], [], [])
            def start(): subprocess.run(%r, check=True, stdin=subprocess.DEVNULL)
            ''' % (TESTS, mount + "/version", start)
        result = self.run_pytest(end + '''
            @pytest.fixture(scope="session", autouse=True)
            def many():
                # whose numbers the next server gives out again
                for _ in range(100): put(1)
            def test_before(): take(put(1))
            def test_anew(): end(); start()
            def test_leak(): put(1)
            def test_ends(): end()
            def test_gone(): pass
            def test_gone_and_fails(): assert False, "its own words"
            ''', "--ttalloc-mount", mount, TT_COMPAT=socket,
            begin=(BEGIN % 144).replace("client = ", "connect = lambda: ").replace("client.", "connect()."))
        self.outcomes(result, test_before="passed", test_anew="failed", test_leak="failed", test_ends="failed",
                      test_gone="failed", test_gone_and_fails="failed")
        for test in "test_anew", "test_ends", "test_gone":
            self.assertRegex(result.words[test], "^ttalloc: cannot measure: %s.*$" % mount)
        self.assertIn("ttalloc: leaks 1 bytes in 1 buffer\n", result.words["test_leak"])
        self.assertIn("its own words", result.words["test_gone_and_fails"])
        self.assertNotIn("ttalloc", result.words["test_gone_and_fails"])
        self.assertIn("cannot measure", result.sections["test_gone_and_fails"][0])


if __name__ == "__main__":
    unittest.main()
