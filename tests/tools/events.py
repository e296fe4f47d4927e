#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""events.py MOUNT SOCKET: the stream `events` and its past, `trace`, line by line.

Nothing waits for time to pass: a blocking read returns when there is a line, and the timer that interrupts one would
interrupt it just as well earlier or later. The alarm is a bound.
"""
import errno
import os
import re
import select
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import ADDRESS, Mount, Report, TIME, TYPES  # noqa: E402
from tools.remote import Remote  # noqa: E402
import ttsend  # noqa: E402

KINDS = ("alloc ref resize free unref double_free unknown_free foreign_free connect exit scan reset clean dump "
         "lost").split()
# (No site: those who send here, by a socket, have none.)
LINE = re.compile(r"(%s) (\d+|-) (%s) (\d+|-) (%s|-) (%s|-) (\d+|-) (\d+|-) (\d+|-) -"
                  % (TIME, "|".join(KINDS), "|".join(TYPES), ADDRESS))
T0 = 0  # not told: `events` has the time of arrival anyway


class Stream:
    """`events`, opened; line() blocks until there is one."""

    def __init__(self, mount, flags=0):
        self.fd = os.open(mount.join("events"), os.O_RDONLY | flags)
        self.rest = b""

    def line(self, size=65536):
        while b"\n" not in self.rest:
            part = os.read(self.fd, size)
            if not part:
                raise EOFError("events ended")
            if len(part) > size:
                raise ValueError("more bytes than asked")
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\n")
        m = LINE.fullmatch(line.decode())
        if m is None:
            raise ValueError("events: not a line: %r" % line)
        return m.groups()

    def lines(self, count):
        """Without time and seq."""
        return [self.line()[2:] for _ in range(count)]

    def close(self):
        os.close(self.fd)


def main():
    mount, path = Mount(sys.argv[1]), sys.argv[2]
    signal.alarm(120)
    r = Report()
    me = str(os.getpid())
    a16, a32 = "0x000000000010", "0x000000000020"

    # ---- every kind, exactly ----
    events = Stream(mount)
    late = None
    s = ttsend.Sender(path, 144)
    r.eq("connect", [("connect", "-", "-", "-", "-", me, "-")], events.lines(1))
    A, F = ttsend.ALLOC, ttsend.FREE
    steps = [
        (lambda: s.alloc(0, "dram", 16, 100, T0), ("alloc", "0", "dram", a16, "100", me, "1")),
        (lambda: s.alloc(0, "dram", 16, 100, T0), ("ref", "0", "dram", a16, "100", me, "2")),
        (lambda: s.alloc(0, "dram", 16, 70, T0), ("resize", "0", "dram", a16, "70", me, "3")),
        (lambda: s.free(0, 16), ("unref", "0", "dram", a16, "70", me, "2")),
        (lambda: s.free(0, 16), ("unref", "0", "dram", a16, "70", me, "1")),
        (lambda: s.free(0, 16), ("free", "0", "dram", a16, "70", me, "-")),
        (lambda: s.cb(1023, 32, 9, T0), ("alloc", "1023", "cb", a32, "9", me, "1")),
        (lambda: s.cb_free(1023, 32, 9), ("free", "1023", "cb", a32, "9", me, "-")),
        (lambda: s.kernel(2, 32, 5000, 1, T0), ("alloc", "2", "kernel", a32, "5000", me, "1")),
        (lambda: s.unload(2, 32, 5000), ("free", "2", "kernel", a32, "5000", me, "-")),
    ]
    for step, want in steps:
        step()
        r.eq("line of %s" % want[0], want, events.line()[2:])

    def kind_place_pid(line):
        return line[0], line[1], line[3], line[5]

    s.free(0, 16)
    r.eq("double_free", ("double_free", "0", a16, me), kind_place_pid(events.line()[2:]))
    s.free(0, 0x999)
    r.eq("unknown_free", ("unknown_free", "0", "0x000000000999", me), kind_place_pid(events.line()[2:]))
    s.cb_free(0, 0x999)
    r.eq("unknown_free of a cb", ("unknown_free", "0", "0x000000000999", me), kind_place_pid(events.line()[2:]))

    other = Remote(path, 144)
    r.eq("connect of another", [("connect", "-", "-", "-", "-", str(other.pid), "-")], events.lines(1))
    s.alloc(3, "l1", 16, 100, T0)
    r.eq("alloc", [("alloc", "3", "l1", a16, "100", me, "1")], events.lines(1))
    other.send(F, 3, 0, 0, 16)
    line = events.line()[2:]
    r.eq("foreign_free", ("foreign_free", "3", a16), (line[0], line[1], line[3]))
    r.ok("foreign_free names a process that takes part", line[5] in (me, str(other.pid)), line)
    other.send(A, 3, 50, 4, 32)
    r.eq("alloc of another", [("alloc", "3", "trace", a32, "50", str(other.pid), "1")], events.lines(1))
    other.end()
    r.eq("exit of another", [("exit", "-", "-", "-", "-", str(other.pid), "-")], events.lines(1))

    # ---- commands are in the stream too ----
    for command, kind in (("scan", "scan"), ("clean dead", "clean"), ("dump x", "dump"), ("reset peaks", "reset")):
        with open(mount.join("ctl"), "w", encoding="utf-8") as f:
            f.write(command + "\n")
        r.eq("line of " + command, kind, events.line()[2])

    # ---- each opener has its own position, starting now ----
    late = Stream(mount, os.O_NONBLOCK)
    s.alloc(0, "dram", 16, 100, T0)
    for name, stream in (("early", events), ("late", late)):
        r.eq("%s reader" % name, ("alloc", "0", "dram", a16, "100", me, "1"), stream.line()[2:])

    # ---- O_NONBLOCK, poll, select ----
    def no_line(fd):
        try:
            return os.read(fd, 100)
        except OSError as e:
            return errno.errorcode[e.errno]

    r.eq("O_NONBLOCK without a line", "EAGAIN", no_line(late.fd))
    poll = select.poll()
    poll.register(late.fd, select.POLLIN)
    r.eq("poll without a line", [], poll.poll(0))
    r.eq("select without a line", [], select.select([late.fd], [], [], 0)[0])
    s.free(0, 16)
    r.eq("poll with a line", [(late.fd, select.POLLIN)], poll.poll(60000))
    r.eq("select with a line", [late.fd], select.select([late.fd], [], [], 60)[0])
    r.eq("the line", ("free", "0", "dram", a16, "100", me, "-"), late.line()[2:])
    r.eq("poll after the line", [], poll.poll(0))
    # a poll that already waits is woken: the sender is told to send when this process is about to wait
    child = os.fork()
    if child == 0:
        ttsend.Sender(path, 72).alloc(5, "dram", 16, 1, T0)
        os._exit(0)
    r.eq("poll that waits is woken", [(late.fd, select.POLLIN)], poll.poll(60000))
    got = [late.line()[2:] for _ in range(1)]
    r.eq("what it was woken for", "connect", got[0][0])
    os.waitpid(child, 0)
    mount.barrier()
    got = [late.line()[2:3][0] for _ in range(2)]
    r.eq("then alloc and exit", ["alloc", "exit"], got)
    r.eq("then nothing", "EAGAIN", no_line(late.fd))

    # ---- an interrupted read ----
    class Interrupted(Exception):
        pass

    def interrupt(_signal, _frame):
        raise Interrupted

    blocked = Stream(mount)
    signal.signal(signal.SIGVTALRM, interrupt)
    signal.signal(signal.SIGUSR1, interrupt)
    parent = os.getpid()
    go_r, go_w = os.pipe()
    child = os.fork()
    if child == 0:
        # sends the signal when the parent sleeps in its read of `events` (state S), or at once if that is not told
        os.read(go_r, 1)
        while True:
            with open("/proc/%d/stat" % parent, encoding="utf-8") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "S":
                    break
        os.kill(parent, signal.SIGUSR1)
        os._exit(0)
    try:
        os.write(go_w, b"g")
        blocked.line()
        r.fail("an interrupted read: got a line")
    except Interrupted:
        r.eq("an interrupted read ends", True, True)
    os.waitpid(child, 0)
    s.alloc(0, "dram", 16, 100, T0)
    r.eq("no line is lost by it", ("alloc", "0", "dram", a16, "100", me, "1"), blocked.line()[2:])

    # ---- small reads, offsets ----
    s.free(0, 16)
    whole = b""
    while not whole.endswith(b"\n"):
        part = os.read(blocked.fd, 1)
        r.ok("one byte at a time", len(part) == 1, part)
        whole += part
    r.eq("the line of single bytes", ("free", "0", "dram", a16, "100", me, "-"),
         LINE.fullmatch(whole.decode().rstrip("\n")).groups()[2:])
    s.alloc(0, "dram", 16, 100, T0)
    r.eq("offsets are ignored: pread", str(time.time_ns())[:1].encode(), os.pread(blocked.fd, 1, 123456)[:1])
    blocked.rest = str(time.time_ns())[:1].encode()
    r.eq("and the rest of that line", "alloc", blocked.line()[2])

    # ---- trace never blocks and tells the same ----
    lines = mount.lines("trace")
    r.eq("header of trace", "# time seq kind device type address size pid refs site", lines[0])
    lines = lines[1:]
    for line in lines:
        r.ok("line of trace", LINE.fullmatch(line), line)
    r.eq("trace: the last", ("alloc", "0", "dram", a16, "100", me, "1"), LINE.fullmatch(lines[-1]).groups()[2:])
    r.eq("trace: the first", "connect", LINE.fullmatch(lines[0]).groups()[2])
    seqs = [int(LINE.fullmatch(line).group(2)) for line in lines if LINE.fullmatch(line).group(2) != "-"]
    r.eq("trace: seq rises", sorted(seqs), seqs)

    # ---- the same number in events and in the record ----
    seq = next(row[8] for row in mount.allocs() if row[2] == 16 and row[0] == 0)
    r.eq("seq of the buffer", str(seq), LINE.fullmatch(lines[-1]).group(2))

    # ---- falling behind ----
    for size, sent in ((64, 1000), (16, 17), (128, 5000)):
        with open(mount.join("options", "trace_events"), "w", encoding="utf-8") as f:
            f.write("%d\n" % size)
        slow = Stream(mount, os.O_NONBLOCK)
        s.begin()
        for i in range(sent):
            s.alloc(7, "dram", 0x100000 + i * 16, 1, T0)
        s.flush()
        mount.barrier()
        first = slow.line()
        r.eq("behind by %d of %d: lost" % (sent - size, sent), "lost", first[2])
        rest = []
        try:
            while True:
                rest.append(slow.line()[2:])
        except BlockingIOError:
            pass
        r.eq("behind: lost + seen", sent, int(first[6]) + len(rest))
        r.eq("behind: what is seen is the newest, without a hole",
             [("alloc", "7", "dram", "0x%012x" % (0x100000 + i * 16), "1", me, "1")
              for i in range(sent - len(rest), sent)], rest)
        s.begin()
        for i in range(sent):
            s.free(7, 0x100000 + i * 16)
        s.flush()
        s.alloc(6, "dram", 16, 1, T0)
        mount.barrier()
        last = None
        losts = 0
        try:
            while True:
                last = slow.line()
                losts += last[2] == "lost"
        except BlockingIOError:
            pass
        r.eq("behind again: one lost line", 1, losts)
        r.eq("behind again: then up to date", ("alloc", "6"), last[2:4])
        s.free(6, 16)
        slow.close()

    # ---- every regular file answers poll as in sysfs: changed since this descriptor read, or not ----
    s.alloc(4, "l1", 16, 100, T0)

    def change():
        """Of everything that is about device 4."""
        s.alloc(4, "l1", 16, 100, T0)  # one more reference
        s.alloc(4, "l1", 48, 100, T0)

    def change_back():
        s.free(4, 16)
        s.free(4, 48)

    for names in (("summary",), ("allocs",), ("processes",), ("trace",), ("device4", "summary"), ("device4", "allocs"),
                  ("device4", "l1", "0x000000000010"), ("pids", me, "status"), ("pids", me, "allocs")):
        title = "poll of " + "/".join(names)
        fd = os.open(mount.join(*names), os.O_RDONLY)
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLPRI | select.POLLERR)

        def polled(timeout):
            return [events for _, events in poll.poll(timeout)]

        while os.read(fd, 65536):
            pass
        r.eq(title + ", just read", [select.POLLIN], polled(0))
        change()
        r.eq(title + ", changed", [select.POLLIN | select.POLLPRI | select.POLLERR], polled(60000))
        content = os.pread(fd, 65536, 0)
        r.ok(title + ": the new content is there", content)
        r.eq(title + ", read again", [select.POLLIN], polled(0))
        change_back()
        r.eq(title + ", changed again", [select.POLLIN | select.POLLPRI | select.POLLERR], polled(60000))
        os.pread(fd, 65536, 0)
        # who waits is woken
        poll.modify(fd, select.POLLPRI | select.POLLERR)
        r.eq(title + ": nothing to wait for", [], polled(0))
        child = os.fork()
        if child == 0:
            while True:  # until the parent sleeps
                with open("/proc/%d/stat" % parent, encoding="utf-8") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] == "S":
                        break
            change()
            os._exit(0)
        r.eq(title + ": who waits is woken", [select.POLLPRI | select.POLLERR], polled(60000))
        os.waitpid(child, 0)
        change_back()
        os.close(fd)
    for names in (("README",), ("version",), ("ctl",), ("options", "trace_events")):
        fd = os.open(mount.join(*names), os.O_RDONLY)
        while os.read(fd, 65536):
            pass
        s.alloc(4, "l1", 16, 100, T0)
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLPRI)
        r.eq("poll of %s: readable, unchanged" % "/".join(names), [(fd, select.POLLIN)], poll.poll(0))
        os.close(fd)
        s.free(4, 16)

    # ---- a socket is no reason to hang: two parked readers, one line ----
    one, two = Stream(mount), Stream(mount)
    a, b = socket.socketpair()
    child = os.fork()
    if child == 0:
        line = two.line()
        b.send(line[2].encode())
        os._exit(0)
    b.close()
    s.alloc(4, "dram", 64, 1, T0)
    r.eq("first reader", "alloc", one.line()[2])
    r.eq("second reader", b"alloc", a.recv(100))
    os.waitpid(child, 0)
    return r.end("events")


if __name__ == "__main__":
    sys.exit(main())
