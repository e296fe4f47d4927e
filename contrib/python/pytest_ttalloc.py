# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pytest plugin: fails the tests that leak device memory, and tells what each test used. See README.md beside it.

    pytest -p pytest_ttalloc --ttalloc

It reads the mount of a ttalloc server, and nothing else: programs report to the server as ever, through libttalloc or
an existing client, from C++ underneath or from Python. It needs no rights on the server, and sends it no commands.

What a test leaks
    What was allocated from its setup on, by this process or one that descends from it, and is held still when its
    teardown is over and the garbage collector has run. What a fixture of a larger scope allocates while it is set up
    belongs to that fixture, whichever test was the first to ask for it; it leaks what is held still after its own
    teardown, and that is an error at the teardown of the test in which it ended.

    Sequence numbers make this exact: each allocation has one, ascending for the life of the server. So the highest
    number among what is held now separates what is held now from whatever will be allocated later.

What grows
    A test with repeat=N is run N times between one setup and teardown. What comes from one place (call site, tag,
    device, type) grows if each run but the first left something that is held at the end, too. So what the first run
    leaves in a cache does not count, nor what a later run replaces.
"""
import collections
import contextlib
import errno
import functools
import gc
import os
import re
import select
import stat
import sys
import tempfile
import time
import urllib.parse

import pytest
from _pytest.runner import runtestprotocol

MOUNT = "/mnt/ttalloc"
SHOWN_GROUPS = 10
SHOWN_FRAMES = 8
SHOWN_SIZES = 4
SHOWN_BUFFERS = 3
WHERE_FRAMES = 3
# How long the names of functions are waited for, which the server looks up after it has first seen a call site; once
# for each binary.
NAMES_S = 1.0


class Gone(Exception):
    """The server cannot be asked any more."""


class Missing(Gone):
    """A file or directory of the mount is not there, which some come and go."""


class Leaked(pytest.fail.Exception):
    """What a leaking test is failed with."""


# ---- options ----

def pytest_addoption(parser):
    group = parser.getgroup("ttalloc", "device memory (ttalloc)")

    def add(name, text, default, type=None, metavar=None):
        more = {"action": "store_true"} if type is None else {"type": type, "metavar": metavar}
        group.addoption("--ttalloc" + name, default=None, help=text, **more)
        parser.addini("ttalloc" + name.replace("-", "_"), text, type="bool" if type is None else None, default=default)

    add("", "fail tests that leak device memory", False)
    add("-mount", "where the server is mounted ($TTALLOC_MOUNT, or %s)" % MOUNT, "", str, "DIR")
    add("-baseline", "known leaks, which do not fail", "", str, "FILE")
    add("-baseline-update", "write the leaks of this run to the baseline instead of failing", False)
    add("-suppressions", "lines leak:PATTERN, for tags, commands, functions and binaries", "", str, "FILE")
    add("-repeat", "run each test N times, at least 3, and fail those that grow", "1", int, "N")
    add("-min-size", "leave out buffers smaller than this", "0", int, "BYTES")
    add("-top", "list the N tests of the highest peaks", "10", int, "N")


def _option(config, name):
    """As given, or from the ini file."""
    value = config.getoption("ttalloc_" + name if name else "ttalloc")
    return config.getini("ttalloc_" + name if name else "ttalloc") if value is None else value


def _number(config, name):
    value = _option(config, name)
    if not re.fullmatch(r"\d+", str(value)):
        raise pytest.UsageError("ttalloc_%s: not a number: %r" % (name, value))
    return int(value)


def _path(config, name):
    """A file of the ini file is beside it, one of the command line where pytest was started."""
    value = _option(config, name)
    if not value:
        return None
    given = config.getoption("ttalloc_" + name) is not None
    return os.path.join(str(config.invocation_params.dir if given else config.rootpath), value)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    # Whether a program reports is decided when its client is first used, which can be as early as in a conftest.py.
    switched = early_config.known_args_namespace.ttalloc
    if early_config.getini("ttalloc") if switched is None else switched:
        os.environ.setdefault("TT_ALLOC_TRACKING_ENABLED", "1")


def pytest_configure(config):
    config.addinivalue_line("markers", "ttalloc(allow=BYTES, repeat=N, skip=BOOL, devices=NUMBERS, suppress=PATTERN):"
                                       " how this test's device memory is judged")
    if _option(config, ""):
        config.pluginmanager.register(Plugin(config), "ttalloc-active")


@pytest.fixture
def ttalloc(request):
    """Device memory since the setup of this test began: a Mark. Skips the test if it runs without --ttalloc."""
    plugin = request.config.pluginmanager.get_plugin("ttalloc-active")
    if plugin is None:
        pytest.skip("needs --ttalloc")
    if plugin.mark is None:
        pytest.fail("ttalloc: cannot measure")
    return plugin.mark


# ---- the words of the mount's files ----

def _unescaped(word):
    return "" if word == "-" else urllib.parse.unquote(word)


def _escaped(text):
    """One word without blanks, `%` and control characters, as the mount writes them."""
    return "".join("%%%02X" % ord(c) if c <= " " or c in "%\x7f" else c for c in text) or "-"


def _printable(line):
    """pytest takes for an end of line what splitlines() does, too, and loses as many lines at the end."""
    return "".join(c if c == " " or c.isprintable() else urllib.parse.quote(c) for c in line)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _lines(text):
    """Only these ends of lines are some: names have others in them, like U+2028, which splitlines() takes for one."""
    return text.removesuffix("\n").split("\n")


def _words(line):
    """Only these are blanks, for the same reason."""
    return re.findall(r"[^ \t\r]+", line)


def _rules(text):
    """Numbers and lines, without comments: `#` begins one at the beginning of a word."""
    for number, line in enumerate(_lines(text), 1):
        line = re.sub(r"(^|[ \t])#.*", "", line).strip(" \t\r")
        if line:
            yield number, line


class Patterns:
    """Lines `leak:PATTERN` as in the mount's options/suppressions: a pattern means each text that contains it; `*` is
    anything, `^` and `$` the ends."""

    def __init__(self):
        self.any = []

    def add(self, pattern):
        start = "^" if pattern.startswith("^") else ""
        end = "$" if pattern.endswith("$") else ""
        middle = pattern[len(start):len(pattern) - len(end)]
        self.any.append(re.compile(start + ".*".join(map(re.escape, middle.split("*"))) + ("\\Z" if end else "")))

    def add_text(self, text, source):
        for number, line in _rules(text):
            kind, _, pattern = line.partition(":")
            if kind != "leak" or not pattern:
                raise pytest.UsageError("%s: line %d is not leak:PATTERN: %r" % (source, number, line))
            self.add(pattern)

    def match(self, texts):
        return any(pattern.search(text) for text in filter(None, texts) for pattern in self.any)


class Baseline:
    """The file of known leaks: for a test, device, type and place, how many buffers and bytes are no news. Lines of a
    baseline of `ttalloc run` (KEY COUNT BYTES [FUNCTIONS]) are good for every test."""

    HEADER = "# test device type where count bytes"

    def __init__(self, path):
        self.path = path
        self.known = {}   # with the test in the key, or as `ttalloc run` has it
        self.functions = {}   # of the latter

    def read(self):
        with open(self.path, encoding="utf-8") as file:
            for number, line in _rules(file.read()):
                words = _words(line)
                of_run = len(words) in (3, 4)
                key, (count, size) = (words[:1], words[1:3]) if of_run else (words[:4], (words[4:6] + ["-", "-"])[:2])
                if len(words) not in (3, 4, 6) or not (count + size).isdecimal():
                    raise pytest.UsageError("%s: line %d is not: %s" % (self.path, number, self.HEADER[2:]))
                self.known[tuple(key)] = (int(count), int(size))
                if len(words) == 4:
                    self.functions[tuple(key)] = words[3]

    def covers(self, key, count_and_bytes):
        return all(have <= known for have, known in zip(count_and_bytes, self.known.get(key, (0, 0))))

    def write(self, results):
        """What was found of tests that ran takes the place of what was known of them. With pytest-xdist a fixture ends
        in each worker: the most counts."""
        ran = {name for result in results for name in result["ran"]}
        known = {key: value for key, value in self.known.items() if len(key) == 1 or key[0] not in ran}
        for entry in (entry for result in results for entry in result["entries"]):
            key = tuple(entry[:4])
            known[key] = tuple(map(max, known.get(key, (0, 0)), entry[4:]))
        lines = [" ".join((*key, *map(str, value), *([self.functions[key]] if key in self.functions else [])))
                 for key, value in sorted(known.items())]
        text = "\n".join(["# Known leaks, from pytest --ttalloc-baseline-update", self.HEADER, *lines, ""])
        # Whole or not at all, as `ttalloc run` does it.
        path = os.path.realpath(self.path)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=os.path.dirname(path), delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.chmod(file.name, stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


# ---- the server ----

@contextlib.contextmanager
def _asking(*names):
    """The path; what goes wrong with it is Missing or Gone."""
    path = os.path.join(*names)
    try:
        yield path
    except OSError as error:
        kind = Missing if error.errno in (errno.ENOENT, errno.ESTALE) else Gone
        raise kind("%s: %s" % (path, error.strerror)) from error


Buffer = collections.namedtuple("Buffer", "device type address size refs pid seq site tag comm")


class Family:
    """This process and its descendants, as far as they report to the server at `mount`; and what they hold."""

    def __init__(self, mount):
        self.mount = mount
        self.pid = os.getpid()
        self.uid = os.getuid()
        self.known = None  # inode of a directory in pids/: whether it is one of ours; None before the first look()
        self.ours = {}     # of these, inode: pid
        self.pids = set()
        self.reported = False
        self.fixtures = []  # Owned, innermost first
        self.functions = {}   # by call site
        self.unnamed = set()  # binaries whose names were waited for

    # -- reading --

    def text(self, *names):
        with _asking(self.mount, *names) as path, open(path, "rb") as file:
            return file.read().decode()

    def version(self):
        """The words of `version`, as a dict."""
        words = re.findall(r"[^ \n]+", self.text("version"))
        return dict(zip(words[::2], words[1::2]))

    def _is_ours(self, pid):
        try:
            status = dict(line.partition(" ")[::2] for line in _lines(self.text("pids", pid, "status")))
        except Missing:
            return False
        if pid == str(self.pid):
            return status["state"] == "live"  # not one that had our pid before, and ended with its buffers
        ancestors = status.get("ancestors", "").split()
        if ancestors == ["-"]:
            # It had ended before the server could look. Not one that had before our first look; somebody else's such
            # process of the same user since then is rarer.
            return self.known is not None and status["uid"] == str(self.uid) and status["state"] == "dead"
        return str(self.pid) in ancestors

    def look(self):
        """Finds out who is ours. An inode of the mount means the same process for ever, a pid does not."""
        with _asking(self.mount, "pids") as path, os.scandir(path) as directory:
            entries = {entry.inode(): entry.name for entry in directory}
        known = self.known or {}
        self.known = {inode: known[inode] if inode in known else self._is_ours(name)
                      for inode, name in entries.items()}
        self.ours = {inode: name for inode, name in entries.items() if self.known[inode]}
        self.pids = set(self.ours.values())
        self.reported |= bool(self.pids)

    def held(self):
        """What those that the last look() found hold now."""
        rows = []
        for pid in self.pids:
            try:
                lines = _lines(self.text("pids", pid, "allocs"))
            except Missing:
                continue
            for line in lines[1:]:
                device, type, address, size, refs, owner, _, _, seq, site, tag, comm = line.split(" ")[:12]
                rows.append(Buffer(int(device), type, int(address, 16), int(size), int(refs), int(owner), int(seq),
                                   site, tag, comm))
        return rows

    def forget_ended(self, rows):
        """Descendants that have ended and hold nothing need not be asked again."""
        holders = {str(b.pid) for b in rows}
        for inode, pid in self.ours.items():
            if pid not in holders and not os.path.exists("/proc/" + pid):
                self.known[inode] = False

    def owner(self, buffer):
        """The fixture of a larger scope that allocated it, or None."""
        return next((f for f in self.fixtures if f.low < buffer.seq <= f.high), None)

    def reason(self, b):
        """Why the server suspects it, too; None if it does not. Asked for what is shown only: `suspects` has all."""
        try:
            record = self.text("leaks", "pid%d-device%d-%s-0x%012x-%d" % (b.pid, b.device, b.type, b.address, b.seq))
        except Missing:
            return None
        return record.partition("\n")[0].partition(" ")[2]

    # -- names of call sites --

    def frames(self, site):
        """[(function, binary)] of a call site, innermost first, "" where unknown."""
        if site not in self.functions:
            self.functions[site] = [] if site == "-" else self._read_frames(site)
        return self.functions[site]

    def _read_frames(self, site):
        with _asking(self.mount, "stacks", site) as path, open(path, "rb", buffering=0) as file:
            poll = select.poll()
            poll.register(file, select.POLLPRI)
            until = time.monotonic() + NAMES_S
            while True:
                lines = _lines(os.pread(file.fileno(), 1 << 20, 0).decode())
                frames = [[_unescaped(word) for word in _words(line)[1:3]] for line in lines if line.startswith("  ")]
                waiting = {binary for function, binary in frames if binary and not function} - self.unnamed
                left = until - time.monotonic()
                if not waiting or left <= 0:
                    self.unnamed |= waiting
                    return frames
                poll.poll(left * 1000)


class Owned:
    """What a fixture of a larger scope allocated: the sequence numbers in ]low, high]."""

    def __init__(self, definition, low, high):
        self.definition = definition
        self.low = low
        self.high = high
        self.ended = False


class Mark:
    """A moment; what this process and its descendants have allocated since. Not what fixtures of larger scopes have.

    held()   what was allocated since, and is held: a list of Buffer
    delta()  bytes held now, less those held then
    peak()   the highest that the bytes held have been, above those held then. exact() is False if that is only what is
             known, because more happened between two looks than the server's `trace` has room for
    mark()   a new one
    """

    def __init__(self, family):
        self.family = family
        self.inner = []
        # Opened before the look: what happens in between is then in both, and an address counts once.
        with _asking(family.mount, "events") as path:
            self.events = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = b""
        self.complete = True
        self.rise = 0
        family.look()
        rows = family.held()
        self._set(rows)
        self.base = self.now
        self.bytes = self._own(rows)
        self.seq = max((b.seq for b in rows), default=0)

    def close(self):
        for mark in self.inner:
            mark.close()
        os.close(self.events)

    def mark(self):
        self.inner.append(Mark(self.family))
        return self.inner[-1]

    def held(self):
        return [b for b in self.look() if b.seq > self.seq and not self.family.owner(b)]

    def delta(self):
        return self._own(self.look()) - self.bytes

    def peak(self):
        self.look()
        return self.rise

    def exact(self):
        self.look()
        return self.complete

    def _own(self, rows):
        return sum(b.size for b in rows if not self.family.owner(b))

    def _set(self, rows):
        self.sizes = {(b.device, b.type, b.address, b.pid): b.size for b in rows}
        self.now = sum(b.size for b in rows)

    def look(self):
        """All that is held now."""
        self.family.look()
        for line in self._lines():
            self._happened(line.split())
        rows = self.family.held()
        # What the lines do not tell, such as whether somebody else's free was booked, the table does.
        self._set(rows)
        self.rise = max(self.rise, self.now - self.base)
        return rows

    def skip(self):
        """Leaves out what has happened since the last look; returns what is held now."""
        before = self.now
        self.family.look()
        for _ in self._lines():
            pass
        rows = self.family.held()
        self._set(rows)
        self.base += self.now - before
        return rows

    def _lines(self):
        while True:
            with _asking(self.family.mount, "events"):
                try:
                    part = os.read(self.events, 1 << 18)
                except BlockingIOError:
                    return
            if not part:
                raise Gone("%s/events has ended" % self.family.mount)
            lines = (self.rest + part).decode().split("\n")
            self.rest = lines.pop().encode()
            yield from lines

    def _happened(self, words):
        _, _, kind, device, type, address, size, pid, _ = words[:9]
        if kind == "lost":
            self.complete = False
        elif pid in self.family.pids and kind in ("alloc", "resize", "free"):
            key = (int(device), type, int(address, 16), int(pid))
            if kind == "free":
                self.now -= self.sizes.pop(key, 0)
            else:
                self.now += int(size) - self.sizes.get(key, 0)
                self.sizes[key] = int(size)
                self.rise = max(self.rise, self.now - self.base)


# ---- judging ----

class Group:
    """Buffers from one place: call site, tag, device, type. Largest first."""

    def __init__(self, buffers, frames, runs):
        self.buffers = sorted(buffers, key=lambda b: (-b.size, b.seq))
        self.frames = frames
        self.runs = runs  # that left them; 0 where runs are not counted
        self.bytes = sum(b.size for b in buffers)

    def names(self):
        """What patterns are matched against."""
        for b in self.buffers:
            yield _unescaped(b.tag)
            yield _unescaped(b.comm)
        for function, binary in self.frames:
            yield from (function, *function.split("@", 1), binary)

    def each(self):
        """Buffers and bytes, of growth with each run."""
        runs = self.runs or 1
        return -(-len(self.buffers) // runs), -(-self.bytes // runs)

    def key(self, test):
        """What the baseline knows it by. The place has names that outlive a rebuild: the tag, or else the innermost
        functions without their lines."""
        first = self.buffers[0]
        functions = [function.partition("@")[0] for function, _ in self.frames if function]
        where = first.tag if first.tag != "-" else _escaped("<".join(functions[:WHERE_FRAMES]))
        # In the file it would begin a comment.
        return (_escaped(test), str(first.device), first.type, re.sub(r"^#", "%23", where))

    def run_keys(self, known):
        """What the baseline of `ttalloc run` knows it by: the call site, or classes of sizes, and the tag; or without
        that, for tags that it does not know. Buffers and bytes of each."""
        found = collections.defaultdict(lambda: (0, 0))
        for b in self.buffers:
            low = 1 << (b.size.bit_length() - 1)
            place = ("%s/%s" % (b.site, b.type) if b.site != "-"
                     else "device%d/%s/%d..%d" % (b.device, b.type, low, 2 * low - 1))
            key = "%s/%s" % (place, b.tag)
            key = (key if (key,) in known or (place,) not in known else place,)
            found[key] = _sum(found[key], (1, b.size))
        return found

    def text(self, reason):
        first = self.buffers[0]
        sizes = sorted(collections.Counter(b.size for b in self.buffers).items(), key=lambda s: -s[0] * s[1])
        yield "%d bytes in %s, device %d, %s: %s%s" % (
            self.bytes, _buffers(len(self.buffers)), first.device, first.type,
            ", ".join("%d x %d" % (count, size) for size, count in sizes[:SHOWN_SIZES]),
            ", ..." if len(sizes) > SHOWN_SIZES else "")
        if self.runs:
            yield "    %d bytes with each run" % self.each()[1]
        if first.tag != "-":
            yield "    tag %s" % first.tag
        if first.site != "-":
            yield "    site %s" % first.site
        for function, binary in self.frames[:SHOWN_FRAMES]:
            yield "        %s" % (function or "? in %s" % (binary or "no file"))
        if len(self.frames) > SHOWN_FRAMES:
            yield "        and %d more" % (len(self.frames) - SHOWN_FRAMES)
        for b in self.buffers[:SHOWN_BUFFERS]:
            why = reason(b)
            yield "    0x%012x: %d bytes, pid %d %s%s" % (b.address, b.size, b.pid, b.comm, ", " + why if why else "")
        if len(self.buffers) > SHOWN_BUFFERS:
            yield "    and %d more" % (len(self.buffers) - SHOWN_BUFFERS)


def _buffers(count):
    return "1 buffer" if count == 1 else "%d buffers" % count


def _sum(first, second):
    return first[0] + second[0], first[1] + second[1]


def _place(b):
    return b.device, b.type, b.site, b.tag


def _grown(buffers, seqs):
    """What the runs after the first left, of places of which each of them left something. `seqs`: the highest number
    held before the first run, and after each."""
    runs = [[b for b in buffers if low < b.seq <= high] for low, high in zip(seqs[1:], seqs[2:])]
    places = set.intersection(*({_place(b) for b in run} for run in runs))
    return [b for run in runs for b in run if _place(b) in places]


def _checked_runs(number, source):
    if not isinstance(number, int) or number < 1 or number == 2:
        raise pytest.UsageError("%s: growth needs at least 3 runs to show; 1 is one run, as ever" % source)
    return number


def _settings(item):
    """Of the marker; what a nearer one says goes before what one further out does."""
    found = {"allow": 0, "repeat": None, "skip": False, "devices": None, "suppress": ()}
    for marker in reversed(list(item.iter_markers("ttalloc"))):
        if marker.args or not set(marker.kwargs) <= set(found):
            raise pytest.UsageError("%s: the marker ttalloc takes %s, by name" % (item.nodeid, ", ".join(found)))
        found.update(marker.kwargs)
    for name, one in (("suppress", str), ("devices", int)):
        if isinstance(found[name], one):
            found[name] = (found[name],)
    if found["repeat"] is not None:
        _checked_runs(found["repeat"], item.nodeid)
    return found


def _fixture_name(definition):
    return "%s::fixture:%s" % (definition.baseid or ".", definition.argname)


def _raise(error):
    raise error


class Plugin:
    """There is one if --ttalloc is given. With pytest-xdist each worker has its own, which measures; that of the
    controlling process, which runs no tests, hears of it by the reports."""

    def __init__(self, config):
        self.config = config
        self.mark = None
        self.seqs = []
        self.setting_up = 0  # fixtures of larger scopes
        self.raised = {}     # of the test: what its phases ended with, by phase
        self.ended = set()   # names of fixtures of larger scopes that ended with it
        self.entries = []    # what the baseline has to know of it
        self.results = []    # (node id, what the report says), of all tests
        self.repeat = _checked_runs(_number(config, "repeat"), "--ttalloc-repeat")
        self.min_size = _number(config, "min_size")
        self.top = _number(config, "top")
        self.family = Family(_option(config, "mount") or os.environ.get("TTALLOC_MOUNT") or MOUNT)
        self.version = self._connect()
        self.patterns = Patterns()
        self._read_files(config)

    def _connect(self):
        mount = self.family.mount
        try:
            version = self.family.version()
        except Gone as error:
            raise pytest.UsageError(
                "--ttalloc: no ttalloc server at %s (%s). Start ttallocd, or say where it is mounted with "
                "--ttalloc-mount or TTALLOC_MOUNT" % (mount, error)) from error
        if version.get("abi") != "1":
            raise pytest.UsageError("--ttalloc: %s is no ttalloc of abi 1" % mount)
        return version

    def _read_files(self, config):
        suppressions, path = _path(config, "suppressions"), _path(config, "baseline")
        self.update = _option(config, "baseline_update")
        if self.update and not path:
            raise pytest.UsageError("--ttalloc-baseline-update: which file? See --ttalloc-baseline")
        # Before the tests are run, which takes its time.
        folder = os.path.dirname(os.path.realpath(path)) if self.update else "."
        if not os.access(folder, os.W_OK | os.X_OK):
            raise pytest.UsageError("--ttalloc-baseline-update: cannot write in %s" % folder)
        self.baseline = Baseline(path)
        try:
            if suppressions:
                with open(suppressions, encoding="utf-8") as file:
                    self.patterns.add_text(file.read(), suppressions)
            if path and not (self.update and not os.path.exists(path)):
                self.baseline.read()
        except (OSError, UnicodeDecodeError) as error:
            raise pytest.UsageError("--ttalloc: %s" % error) from error
        try:
            self.patterns.add_text(self.family.text("options", "suppressions"), "options/suppressions")
        except Missing:
            pass

    # -- one test --

    def pytest_collection_modifyitems(self, items):
        for item in items:
            _settings(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        # What a test leaves is known after its teardown, so its reports wait for that.
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._run(item, nextitem, _settings(item)):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, item, nextitem, settings):
        self.raised, self.ended, self.entries = {}, set(), []
        runs = settings["repeat"] or self.repeat
        if runs > 1:
            item.runtest = functools.partial(self._repeated, item.runtest, runs)
        # Not inside of `except`: Python would note the error in each one that the test makes.
        _, gone = self._asked(self._begin)
        try:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if not gone:
                judged, gone = self._asked(functools.partial(self._judged, item, reports, settings, runs))
            return self._failed(item, reports, "ttalloc: cannot measure: %s" % gone) if gone else judged
        finally:
            if runs > 1:
                del item.runtest
            if self.mark is not None:
                self.mark.close()
                self.mark = None

    @staticmethod
    def _asked(function):
        """What it returns, or why the server could not be asked."""
        try:
            return function(), None
        except Gone as error:
            return None, str(error)

    def _begin(self):
        version = self.family.version()
        if version["instance"] != self.version["instance"]:
            self.version = version  # another server: what was known of the last one's files says nothing
            self.family = Family(self.family.mount)
        self.mark = Mark(self.family)
        self.seqs = [self.mark.seq]

    def _repeated(self, runtest, runs):
        if self.mark is None:
            return runtest()
        self.seqs = [self._highest(self.mark.look())]
        for _ in range(runs):
            runtest()
            gc.collect()
            self.seqs.append(self._highest(self.mark.look()))

    def _highest(self, rows):
        return max([b.seq for b in rows] + self.seqs[-1:])

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.scope == "function" or self.mark is None:
            yield
            return
        # One that asks for another while it is set up: what it did until then is not the test's either.
        low = self._highest(self.mark.skip() if self.setting_up else self.mark.look())
        self.setting_up += 1
        yield
        self.setting_up -= 1
        high = self._highest(self.mark.skip())
        if high > low:
            self.family.fixtures.append(Owned(fixturedef, low, high))

    def pytest_fixture_post_finalizer(self, fixturedef):
        if fixturedef.scope != "function":
            self.ended.add(_fixture_name(fixturedef))
            for owned in self.family.fixtures:
                owned.ended |= owned.definition is fixturedef

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, call):
        yield
        # For a unittest.TestCase it is known only now.
        self.raised[call.when] = call.excinfo is not None

    # -- its verdict --

    def _judged(self, item, reports, settings, runs):
        rows, own, fixtures = self._left()
        left = sum(b.size for b in rows if not self.family.owner(b)) - self.mark.bytes
        self.family.fixtures = [f for f in self.family.fixtures if not f.ended]
        self.family.forget_ended(rows)
        if runs > 1:
            # A test that did not get through all of its runs has shown no growth.
            own = _grown(own, self.seqs) if len(self.seqs) == runs + 1 else []
        leaks = []
        if not settings["skip"]:
            leaks = self._news(item.nodeid, self._groups(own, settings, runs - 1), settings["allow"])
        if leaks:
            reports = self._failed(item, reports, self._report(leaks, runs > 1))
        leaked = sum(g.bytes for g in leaks)
        texts = []
        for name, buffers in fixtures.items():
            leaks = self._news(name, self._groups(buffers, {"suppress": (), "devices": None}, 0), 0)
            if leaks:
                texts.append("%s\n\nThey are of %s, which has ended." % (self._report(leaks, False), name))
        if texts:
            reports = self._failed(item, reports, "\n\n".join(texts), "teardown")
        self._note(item, reports, left, leaked)
        return reports

    def _left(self):
        """All that is held; of it what the test left, and what ended fixtures of larger scopes did, by their names."""
        rows, own, fixtures = self._look()
        if own or fixtures:
            # The traceback of a failure keeps alive whatever the test had in its variables.
            for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                sys.__dict__.pop(name, None)
            gc.collect()
            rows, own, fixtures = self._look()
        return rows, own, fixtures

    def _look(self):
        rows = self.mark.look()
        own, fixtures = [], {}
        for b in rows:
            owner = self.family.owner(b)
            if owner is None and b.seq > self.mark.seq:
                own.append(b)
            elif owner is not None and owner.ended:
                fixtures.setdefault(_fixture_name(owner.definition), []).append(b)
        return rows, own, fixtures

    def _groups(self, buffers, settings, runs):
        """By place, largest first; without what is suppressed, or too small, or on other devices."""
        patterns = Patterns()
        patterns.any = list(self.patterns.any)
        for pattern in settings["suppress"]:
            patterns.add(pattern)
        places = collections.defaultdict(list)
        for b in buffers:
            if b.size >= self.min_size and (settings["devices"] is None or b.device in settings["devices"]):
                places[_place(b)].append(b)
        groups = [Group(found, self.family.frames(found[0].site), runs) for found in places.values()]
        return sorted((g for g in groups if not patterns.match(g.names())), key=lambda g: (-g.bytes, g.buffers[0].seq))

    def _news(self, test, groups, allow):
        """Those that the baseline does not know; none if all of that is no more than what is allowed."""
        sums, run_sums = collections.defaultdict(lambda: (0, 0)), collections.defaultdict(lambda: (0, 0))
        for group in groups:
            sums[group.key(test)] = _sum(sums[group.key(test)], group.each())
            for key, value in group.run_keys(self.baseline.known).items():
                run_sums[key] = _sum(run_sums[key], value)
        covers = self.baseline.covers
        news = [g for g in groups if not covers(g.key(test), sums[g.key(test)])
                and not all(covers(key, run_sums[key]) for key in g.run_keys(self.baseline.known))]
        # A cache may be allowed; what grows is none.
        allow = -1 if any(g.runs for g in groups) else allow
        if self.update:
            if sum(g.bytes for g in groups) > allow:
                self.entries += [[*key, *value] for key, value in sums.items()]
            return []
        return news if sum(g.bytes for g in news) > allow else []

    def _report(self, groups, grows):
        total, count = sum(g.bytes for g in groups), sum(len(g.buffers) for g in groups)
        if grows:
            lines = ["ttalloc: grows by %d bytes with each run: the runs after the first left %d bytes in %s"
                     % (sum(g.each()[1] for g in groups), total, _buffers(count))]
        else:
            lines = ["ttalloc: leaks %d bytes in %s" % (total, _buffers(count))]
        for group in groups[:SHOWN_GROUPS]:
            lines += ["", *group.text(self.family.reason)]
        if len(groups) > SHOWN_GROUPS:
            lines += ["", "and %d bytes from %d more places" % (sum(g.bytes for g in groups[SHOWN_GROUPS:]),
                                                              len(groups) - SHOWN_GROUPS)]
        return "\n".join(map(_printable, lines))

    def _failed(self, item, reports, text, when=None):
        """The reports of a test with that in them. What failed by itself, or was expected to, has it as a section."""
        at = max(i for i, r in enumerate(reports) if r.when == when or not when and r.when != "teardown")
        old = reports[at]
        if self.raised[old.when] and (old.failed or hasattr(old, "wasxfail")):
            old.sections.append(("ttalloc", text))
            return reports
        # pytest makes the report, so that xfail and the like have their say.
        call = pytest.CallInfo.from_call(functools.partial(_raise, Leaked(text, pytrace=False)), when=old.when)
        new = item.ihook.pytest_runtest_makereport(item=item, call=call)
        for name in ("duration", "start", "stop"):
            if hasattr(old, name):
                setattr(new, name, getattr(old, name))
        return reports[:at] + [new] + reports[at + 1:]

    def _note(self, item, reports, left, leaked):
        """The figures, where pytest-xdist and junit.xml find them."""
        peak = self.mark.rise
        reports[-1].ttalloc = {
            "peak": peak, "exact": self.mark.complete, "delta": left, "leaked": leaked, "entries": self.entries,
            "ran": [_escaped(name) for name in (item.nodeid, *sorted(self.ended))], "reported": self.family.reported}
        for report in reports:
            report.user_properties += [("ttalloc_peak", peak), ("ttalloc_delta", left), ("ttalloc_leaked", leaked)]

    # -- the whole run --

    def pytest_report_header(self):
        return "ttalloc: %s, %s" % (self.version["ttalloc"], self.family.mount)

    def pytest_runtest_logreport(self, report):
        if hasattr(report, "ttalloc"):
            self.results.append((report.nodeid, report.ttalloc))

    def _reported(self):
        return any(result["reported"] for _, result in self.results)

    def pytest_sessionfinish(self):
        # Where nothing was seen, that nothing leaks is no news.
        if self.update and self._reported() and not hasattr(self.config, "workerinput"):
            self.baseline.write([result for _, result in self.results])

    def pytest_terminal_summary(self, terminalreporter):
        if not self.results:
            return
        say = terminalreporter.write_line
        used = [(test, r) for test, r in self.results if r["peak"] or r["delta"]]
        terminalreporter.write_sep("=", "device memory")
        if not self._reported():
            say("Nothing was reported. Do the programs have a client, and is TTALLOC_SOCKET that of the server?")
        if used:
            say("%14s %14s %14s  %s" % ("peak", "delta", "leaked", "test"))
        for test, r in sorted(used, key=lambda item: -item[1]["peak"])[:self.top]:
            say("%14s %14d %14d  %s" % (("" if r["exact"] else ">=") + str(r["peak"]), r["delta"], r["leaked"], test))
        leaking = [r["leaked"] for _, r in self.results if r["leaked"]]
        say("%d of %d tests used device memory, %d leaked %d bytes"
            % (len(used), len(self.results), len(leaking), sum(leaking)))
        if self.update:
            say("%s: %s" % (self.baseline.path, "written" if self._reported() else "not written"))
