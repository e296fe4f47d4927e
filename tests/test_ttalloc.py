#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""contrib/python/ttalloc.py: switched off, against a library that records, against the real one without a server, and
(class Mounted, run by mount-python.sh) against a real server.

Environment: TTALLOC_LIBRARY (the library of this build), TT_PRELOAD (what Python needs loaded before a library with
sanitizers), TT_MOUNT (the server's mount; its socket is $TTALLOC_SOCKET). Programs that report run in a process of
their own, since whether they do is decided at the import.
"""
import asyncio
import errno
import inspect
import json
import os
import subprocess
import sys
import threading
import types
import unittest
from unittest import mock

TESTS = os.path.dirname(os.path.abspath(__file__))
MODULE = os.path.join(os.path.dirname(TESTS), "contrib", "python")
LIBRARY = os.environ.pop("TTALLOC_LIBRARY", None)
MOUNT = os.environ.get("TT_MOUNT")
os.environ.pop("TT_ALLOC_TRACKING_ENABLED", None)
sys.path[:0] = [MODULE, TESTS]

import ttalloc  # noqa: E402
from tools.mount import Mount  # noqa: E402

FUNCTIONS = [name for name in ttalloc.__all__ if inspect.isfunction(getattr(ttalloc, name))]


def program(text, **environment):
    """Runs a program that tells what it found as one value in JSON; returns that and its pid."""
    environment = {**os.environ, "PYTHONPATH": MODULE, "TT_ALLOC_TRACKING_ENABLED": "1", **environment}
    if "TT_PRELOAD" in environment:
        environment.update(LD_PRELOAD=environment["TT_PRELOAD"], ASAN_OPTIONS="detect_leaks=0")
    text = ("import asyncio, ctypes, errno, json, os, sys, threading, ttalloc\n"
            "def tell(what): print(json.dumps(what))\n" + text)
    child = subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    out, err = child.communicate(timeout=120)
    if child.returncode != 0 or err:
        raise AssertionError("the program ended with %d:\n%s" % (child.returncode, err))
    return json.loads(out), child.pid


class Off(unittest.TestCase):
    """Nothing is reported: nothing happens, whatever the arguments."""

    PROGRAM = """
nonsense = {"function": lambda: 7, "device": "x", "type": "no such", "address": -1.5}
def call(name):
    function = getattr(ttalloc, name)
    required = [p for p in __import__("inspect").signature(function).parameters.values() if p.default is p.empty]
    return function(*(nonsense.get(p.name) for p in required))
results = {name: call(name) for name in %r}
with results.pop("tag") as a, results.pop("tag_here") as b, ttalloc.tag("x"):
    pass
same = lambda: 8
results["tagged"] = ttalloc.tagged(same) is same and ttalloc.tagged(name="x")(same) is same
with open("/proc/self/maps") as maps:
    tell([results, "libttalloc" in maps.read()])
""" % FUNCTIONS

    def silent(self, loaded, **environment):
        want = dict.fromkeys(FUNCTIONS)
        del want["tag"], want["tag_here"]
        want.update(enabled=False, tagged=True, counters=[0] * 9)
        self.assertEqual([want, loaded], program(self.PROGRAM, **environment)[0])

    def test_not_enabled(self):
        for value in ("", "0", "yes", "1 "):
            with self.subTest(value):
                self.silent(False, TTALLOC_LIBRARY=LIBRARY or "", TT_ALLOC_TRACKING_ENABLED=value)

    def test_no_library(self):
        # a name that cannot be loaded, no such file, a library that is another one
        for path in ("/dev/null", "/no/such/libttalloc.so.0", "libc.so.6"):
            with self.subTest(path):
                self.silent(False, TTALLOC_LIBRARY=path, LD_LIBRARY_PATH="/no/such")

    def test_asynchronous_generator_is_refused_all_the_same(self):
        async def numbers():
            yield 1
        self.assertRaises(TypeError, ttalloc.tagged, numbers)


class Recorder:
    """Stands in for the library: keeps the calls, and the stack of tags of each thread."""

    def __init__(self):
        self.calls = []
        self.stacks = {}

    def stack(self):
        return self.stacks.setdefault(threading.get_ident(), [])

    def ttalloc_tag_push(self, name):
        self.stack().append(name.decode())

    def ttalloc_tag_pop(self):
        self.stack().pop()

    def __getattr__(self, name):
        def record(*arguments):
            self.calls.append((name, [a if isinstance(a, int) else a._obj for a in arguments]))
            return 0
        return record


class Recorded(unittest.TestCase):
    def setUp(self):
        self.library = Recorder()
        for name, value in (("_lib", self.library), ("_instance", 77)):
            patch = mock.patch.object(ttalloc, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def stack(self):
        return "/".join(self.library.stack())

    def called(self, *want):
        self.assertEqual([want], [(name, *arguments) for name, arguments in self.library.calls])
        del self.library.calls[:]

    def tearDown(self):
        self.assertEqual([], [s for s in self.library.stacks.values() if s], "every tag was taken back")


class Arguments(Recorded):
    def test_events(self):
        top = (1 << 64) - 1
        ttalloc.alloc(3, "trace", top, 1)
        self.called("ttalloc_alloc", 77, 3, 4, top, 1)
        ttalloc.alloc(-1 << 31, 255, 0, top)
        self.called("ttalloc_alloc", 77, -1 << 31, 255, 0, top)
        ttalloc.free(1, 2)
        self.called("ttalloc_free", 77, 1, 2)
        ttalloc.cb_alloc(1, 2, 3)
        self.called("ttalloc_cb_alloc", 77, 1, 2, 3)
        ttalloc.cb_free(1, 2)
        self.called("ttalloc_cb_free", 77, 1, 2, 0)
        ttalloc.kernel_load(1, "dispatch", 3, 4)
        self.called("ttalloc_kernel_load", 77, 1, 2, 3, 4)
        ttalloc.kernel_unload(1, 2, 3)
        self.called("ttalloc_kernel_unload", 77, 1, 2, 3)

    def test_names_of_types(self):
        for number, name in enumerate(("dram", "l1", "system_memory", "l1_small", "trace")):
            ttalloc.alloc(0, name, 0, 1)
            self.called("ttalloc_alloc", 77, 0, number, 0, 1)

    def test_device(self):
        ttalloc.device(5, dram=1 << 40, l1=2, dram_channels=3, dram_per_channel=4, l1_per_core=5, arch="blackhole")
        (name, (instance, number, capacity)), = self.library.calls
        self.assertEqual(("ttalloc_device", 77, 5), (name, instance, number))
        self.assertEqual((1 << 40, 2, 3, 4, 5, 3), tuple(getattr(capacity, f) for f in ttalloc.Capacity._fields))

    def test_what_could_not_be_passed_on(self):
        class Whole:
            def __index__(self):
                return 9
        ttalloc.free(Whole(), Whole())
        self.called("ttalloc_free", 77, 9, 9)
        for error, call in (
                (TypeError, lambda: ttalloc.alloc(0, 0, 1.0, 1)),
                (TypeError, lambda: ttalloc.alloc(0, None, 1, 1)),
                (ValueError, lambda: ttalloc.alloc(0, "DRAM", 1, 1)),
                (ValueError, lambda: ttalloc.kernel_load(0, "dram", 1, 1)),
                (OverflowError, lambda: ttalloc.alloc(0, 256, 1, 1)),
                (OverflowError, lambda: ttalloc.alloc(1 << 31, 0, 1, 1)),
                (OverflowError, lambda: ttalloc.alloc(0, 0, 1 << 64, 1)),
                (OverflowError, lambda: ttalloc.alloc(0, 0, 1, -1)),
                (OverflowError, lambda: ttalloc.free(0, -1)),
                (OverflowError, lambda: ttalloc.device(0, l1_per_core=1 << 32))):
            self.assertRaises(error, call)
        self.assertEqual([], self.library.calls)


class Tags(Recorded):
    def test_nested_and_left_by_an_exception(self):
        with ttalloc.tag("a"):
            with self.assertRaises(KeyError), ttalloc.tag("b"):
                self.assertEqual("a/b", self.stack())
                raise KeyError
            self.assertEqual("a", self.stack())

    def test_one_is_entered_twice(self):
        twice = ttalloc.tag("a")
        with twice, twice:
            self.assertEqual("a/a", self.stack())

    def test_names(self):
        for name, want in (("größe", "größe"), (3, "3"), ("\udc80", "?"), ("", "")):
            with ttalloc.tag(name):
                self.assertEqual(want, self.stack())

    def test_here(self):
        line = inspect.currentframe().f_lineno + 1
        with ttalloc.tag_here():
            got = self.stack()
        function = "Tags.test_here" if sys.version_info >= (3, 11) else "test_here"
        self.assertEqual("%s.%s:%d" % (__name__, function, line), got)

    def test_function(self):
        @ttalloc.tagged
        def first(a, *, b):
            """Words."""
            return a, b, self.stack()

        @ttalloc.tagged(name="second")
        def second():
            return first(1, b=2)

        name = "%s.Tags.test_function.<locals>.first" % __name__
        self.assertEqual((1, 2, "second/" + name), second())
        self.assertEqual(("first", "Words."), (first.__name__, first.__doc__))

    def test_method(self):
        class Layer:
            @ttalloc.tagged
            def load(inner):
                return self.stack()
        self.assertTrue(Layer().load().endswith(".<locals>.Layer.load"))

    def test_generator_has_it_while_it_runs(self):
        seen = []

        @ttalloc.tagged(name="g")
        def numbers():
            try:
                while True:
                    try:
                        seen.append((yield self.stack()))
                    except KeyError:
                        seen.append("thrown into " + self.stack())
                    if len(seen) == 3:
                        return "returned"
            finally:
                seen.append("ended in " + self.stack())

        self.assertTrue(inspect.isgeneratorfunction(numbers))
        g = numbers()
        with ttalloc.tag("outside"):
            self.assertEqual("outside/g", next(g))
        self.assertEqual("", self.stack())
        self.assertEqual("g", g.send("sent"))
        self.assertEqual("g", g.throw(KeyError()))
        with self.assertRaises(StopIteration) as end:
            g.send("last")
        self.assertEqual("returned", end.exception.value)
        self.assertEqual(["sent", "thrown into g", "last", "ended in g"], seen)
        del seen[:]
        closed = numbers()
        next(closed)
        closed.close()
        self.assertEqual(["ended in g"], seen)

    def test_generator_moves_to_another_thread(self):
        @ttalloc.tagged(name="g")
        def stacks():
            while True:
                yield self.stack()
        g = stacks()
        got = [next(g)]
        thread = threading.Thread(target=lambda: got.append(next(g)))
        thread.start()
        thread.join()
        self.assertEqual(["g", "g"], got)

    def test_coroutines_take_turns(self):
        seen = []

        def see():
            seen.append(self.stack())

        async def inner(name):
            see()
            await asyncio.sleep(0)
            see()
            return name

        def task(name):
            @ttalloc.tagged(name=name)
            async def run():
                see()
                got = await inner(name)
                see()
                raise ValueError(got)
            self.assertTrue(inspect.iscoroutinefunction(run))
            return run()

        async def both():
            errors = await asyncio.gather(task("x"), task("y"), return_exceptions=True)
            see()
            return [str(e) for e in errors]

        self.assertEqual(["x", "y"], asyncio.run(both()))
        self.assertEqual(["x", "x", "y", "y", "x", "x", "y", "y", ""], seen)

    def test_cancelled_coroutine(self):
        seen = []

        @ttalloc.tagged(name="x")
        async def run():
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                seen.append(self.stack())
                raise

        async def cancel():
            task = asyncio.ensure_future(run())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return task.cancelled()

        self.assertTrue(asyncio.run(cancel()))
        self.assertEqual(["x"], seen)


@unittest.skipUnless(LIBRARY, "TTALLOC_LIBRARY is not set")
class NoServer(unittest.TestCase):
    """The real library, and nobody who listens."""

    def test_nobody_listens(self):
        got, _ = program("""
for i in range(10):
    ttalloc.alloc(0, "dram", 4096 * i, 64)
def failed(question):
    try:
        return question()
    except OSError as e:
        return e.errno
kept = ttalloc.counters()
tell([ttalloc.enabled(), kept.sent, kept.queued, kept.dropped, kept.connections, kept.failed_attempts > 0,
      failed(ttalloc.sync), failed(ttalloc.dump), failed(ttalloc.device_count), failed(lambda: ttalloc.query(0)),
      failed(lambda: ttalloc.device_info(0))])
""", TTALLOC_LIBRARY=LIBRARY, TTALLOC_SOCKET="/no/such/socket")
        self.assertEqual([True, 0, 10, 0, 0, True] + [errno.ENOENT] * 5, got)

    def test_the_loaders_name(self):
        folder = os.path.dirname(LIBRARY)
        for first in ("", "/no/such/libttalloc.so.0"):
            got, _ = program("tell(ttalloc.enabled())", TTALLOC_LIBRARY=first, LD_LIBRARY_PATH=folder,
                             TTALLOC_SOCKET="/no/such/socket")
            self.assertTrue(got)


@unittest.skipUnless(LIBRARY and MOUNT, "mount-python.sh runs these")
class Mounted(unittest.TestCase):
    def setUp(self):
        self.mount = Mount(MOUNT)

    def run_program(self, text):
        return program(text, TTALLOC_LIBRARY=LIBRARY)

    def held(self, pid, *columns):
        """The named columns of the live buffers of a process, by address."""
        rows = (types.SimpleNamespace(device=r[0], type=r[1], address=r[2], size=r[3], refs=r[4], tag=r[10])
                for r in self.mount.allocs("pids", str(pid), "allocs"))
        return [tuple(getattr(r, c) for c in columns) for r in sorted(rows, key=lambda r: r.address)]

    def test_events(self):
        counted, pid = self.run_program("""
for number, name in enumerate(ttalloc.TYPES):
    ttalloc.alloc(number, name, 0x1000 * (number + 1), 64 + number)
ttalloc.alloc(0, "dram", 0x1000, 64)
ttalloc.alloc(0, "dram", 0x9000, 1 << 40)
ttalloc.free(0, 0x9000)
ttalloc.cb_alloc(7, 0xa000, 2048)
ttalloc.cb_alloc(7, 0xb000, 2048)
ttalloc.cb_free(7, 0xb000)
ttalloc.kernel_load(7, "fabric", 0xc000, 512)
ttalloc.kernel_load(7, "application", 0xd000, 512)
ttalloc.kernel_unload(7, 0xd000)
ttalloc.sync()
c = ttalloc.counters()
tell([c.sent, c.queued, c.dropped, c.uncertain, c.connections, c.rings])
""")
        self.assertEqual([14, 0, 0, 0, 1, 1], counted)
        self.assertEqual([(n, name, 0x1000 * (n + 1), 64 + n, 2 if n == 0 else 1)
                          for n, name in enumerate(ttalloc.TYPES)]
                         + [(7, "cb", 0xa000, 2048, 1), (7, "kernel", 0xc000, 512, 1)],
                         self.held(pid, "device", "type", "address", "size", "refs"))
        self.assertEqual("fabric", self.mount.keyed("device7", "kernel", "0xc000")["class"])

    def test_marks(self):
        names, pid = self.run_program("""
bad = []
for name in ("", ".x", "a b", "a/b", "x" * 64, "\\0", "\u00e4"):
    try:
        ttalloc.mark(name)
    except ValueError:
        bad.append(name)
ttalloc.alloc(10, "dram", 0x1000, 100)
ttalloc.mark("python")
ttalloc.alloc(10, "dram", 0x2000, 64)
ttalloc.alloc(10, "dram", 0x3000, 1000)
ttalloc.free(10, 0x3000)
for i in range(5):
    ttalloc.alloc(10, "l1", 0x4000 + i, 32)
    ttalloc.mark(7)
tell([bad, ttalloc.counters().sent, sorted(os.listdir(%r + "/marks")),
      [line.split() for line in open(%r + "/marks/python/summary") if line.endswith(" 10\\n")][0]])
""" % (MOUNT, MOUNT))
        bad, sent, marks, dram = names
        self.assertEqual(["", ".x", "a b", "a/b", "x" * 64, "\0", "\u00e4"], bad)
        self.assertEqual(9, sent)
        self.assertEqual({"python", "7"}, {"python", "7"} & set(marks))
        self.assertEqual("dram 2 164 1164 - - 2 1 1 64 10".split(), dram)
        with open(MOUNT + "/sites") as sites:
            grows = [row.split() for row in sites if row.split()[7:9] == ["10", "l1"]]
        self.assertEqual(["32"], [row[6] for row in grows])

    def test_questions(self):
        got, _ = self.run_program("""
ttalloc.alloc(20, "dram", 16, 1000)
ttalloc.alloc(20, "l1", 16, 200)
ttalloc.alloc(20, "l1_small", 16, 30)
ttalloc.alloc(20, "trace", 16, 4)
ttalloc.cb_alloc(20, 16, 50000)
ttalloc.kernel_load(20, 0, 16, 600000)
ttalloc.dump()
ttalloc.device(21, dram=1 << 34, l1=1 << 20, arch="wormhole_b0")
ttalloc.sync()
tell([ttalloc.query(20)._asdict(), ttalloc.device_info(20), ttalloc.device_info(21)._asdict()["dram"],
      ttalloc.device_info(21).l1, ttalloc.device_info(21).arch, ttalloc.device_count()])
""")
        self.assertEqual([{"dram": 1000, "l1": 200, "l1_small": 30, "trace": 4, "cb": 50000, "kernel": 600000}, None,
                          1 << 34, 1 << 20, ttalloc.ARCHITECTURES["wormhole_b0"], 22], got)
        self.assertEqual(1, len(os.listdir(self.mount.join("dumps"))))

    def test_tags(self):
        line, pid = self.run_program("""
page = iter(range(0x1000, 0x100000, 0x1000))
def put(): ttalloc.alloc(30, "dram", next(page), 64)
put()
with ttalloc.tag("model"):
    put()
    with ttalloc.tag("layers 3"):
        put()
        # what a C library underneath does, which knows nothing of Python
        library = ctypes.CDLL("libttalloc.so.0")
        library.ttalloc_default.restype = ctypes.c_void_p
        library.ttalloc_alloc(ctypes.c_void_p(library.ttalloc_default()), 30, ctypes.c_uint8(0),
                              ctypes.c_uint64(next(page)), ctypes.c_uint64(64))
    put()
    thread = threading.Thread(target=put)
    thread.start()
    thread.join()
put()
def caller():
    with ttalloc.tag_here():
        put()
caller()
@ttalloc.tagged
def function(): put()
function()
with ttalloc.tag("before the fork"):
    child = os.fork()
    if child == 0:
        put()
        ttalloc.sync()
        os._exit(0)
    os.waitpid(child, 0)
    put()
ttalloc.sync()
tell(caller.__code__.co_firstlineno + 1)
""")
        self.assertEqual(["-", "model", "model/layers%203", "model/layers%203", "model", "-", "-",
                          "__main__.caller:%d" % line, "__main__.function", "before%20the%20fork"],
                         [tag for tag, in self.held(pid, "tag")])

    def test_tags_of_a_child(self):
        child, _ = self.run_program("""
with ttalloc.tag("parent"):
    ttalloc.alloc(31, "dram", 0x1000, 64)
    child = os.fork()
    if child == 0:
        with ttalloc.tag("child"):
            ttalloc.alloc(31, "dram", 0x2000, 64)
        ttalloc.sync()
        os._exit(0)
    os.waitpid(child, 0)
tell(child)
""")
        self.assertEqual([(0x2000, "parent/child")], self.held(child, "address", "tag"))


if __name__ == "__main__":
    unittest.main()
