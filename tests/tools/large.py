#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""large.py MOUNT SOCKET COUNT: so many live buffers; listings are complete, each buffer once, while events keep coming.

Events come in two ways during every listing: from a process that never pauses, and from this one between two reads,
so that some come at known places. Times are printed, not asserted.
"""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import ALLOCS_HEADER, ALLOCS_LINE, MAP_HEADER, Mount, Report  # noqa: E402
import ttsend  # noqa: E402

BASE, STEP = 0x40000000, 0x1000  # the stable ones
OTHER = 0x700000000000           # what comes and goes


def send_many(sender, make, count):
    for start in range(0, count, 8192):
        sender.begin()
        for i in range(start, min(count, start + 8192)):
            make(i)
        sender.flush()


def churn(path):
    """Allocates and frees on device 0 until SIGTERM; exits 0 with everything freed."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    s = ttsend.Sender(path, 144)
    n = 0
    while not stop:
        s.begin()
        for i in range(256):
            s.alloc(0, "dram", OTHER + 0x1000000000 + (n + i * 7919) % 100000 * 64, 64)
            s.free(0, OTHER + 0x1000000000 + (n + i * 7919) % 100000 * 64)
        s.flush()
        n += 256
    os._exit(0)


class Timer:
    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.start = time.perf_counter()

    def __exit__(self, *_):
        print("time %-40s %9.4f s" % (self.what, time.perf_counter() - self.start), flush=True)


def main():
    mount, path, count = Mount(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    server = int(re.search(r" pid (\d+) ", mount.text("version")).group(1))
    r = Report()
    s = ttsend.Sender(path, 72)

    def rss():
        with open("/proc/%d/status" % server, encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024

    def summary_times(what, rounds=200):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            mount.text("device0", "summary")
            times.append(time.perf_counter() - start)
        times.sort()
        print("time %-40s %9.1f us median, %.1f us worst of %d" % (what, times[rounds // 2] * 1e6, times[-1] * 1e6,
                                                                  rounds), flush=True)

    # ---- ten buffers, then all ----
    send_many(s, lambda i: s.alloc(0, "dram", BASE + i * STEP, 4096), 10)
    r.eq("ten", (10, 40960), mount.device(0)["dram"][:2])
    summary_times("cat device0/summary, 10 buffers")
    memory10, rss10 = mount.stat("memory_bytes"), rss()
    with Timer("sending %d" % count):
        send_many(s, lambda i: s.alloc(0, "dram", BASE + (i + 10) * STEP, 4096), count - 10)
        r.eq("all", (count, count * 4096), mount.device(0)["dram"][:2])
    summary_times("cat device0/summary, %d buffers" % count)
    memory, rss1 = mount.stat("memory_bytes"), rss()
    per_buffer = (memory - memory10) / (count - 10)
    print("memory per live buffer: %.1f B by stats, %.1f B by RSS" % (per_buffer, (rss1 - rss10) / (count - 10)))
    r.ok("at most 64 bytes per live buffer (index and record)", per_buffer <= 64, per_buffer)

    # ---- listings while events keep coming ----
    child = os.fork()
    if child == 0:
        churn(path)
    place = 0

    def some_events():
        """Some that come, some that stay, some that go, at a known place in the middle of a listing."""
        nonlocal place
        s.begin()
        for _ in range(50):
            place += 1
            s.alloc(0, "dram", OTHER + place * 64, 64)
            if place % 3:
                s.free(0, OTHER + place * 64)
        s.flush()

    def check(title, addresses):
        seen = bytearray(count)
        others = set()
        for a in addresses:
            i, odd = divmod(a - BASE, STEP)
            if not odd and 0 <= i < count:
                seen[i] += 1 if seen[i] < 3 else 0
            elif a < OTHER:
                r.fail("%s: a buffer that never was: %#x" % (title, a))
            elif a in others:
                r.fail("%s: twice: %#x" % (title, a))
            else:
                others.add(a)
        r.eq(title + ": each stable buffer once", (0, 0), (seen.count(0), count - seen.count(0) - seen.count(1)))

    def read_table(*names):
        parts = []
        fd = os.open(mount.join(*names), os.O_RDONLY)
        n = 0
        while True:
            part = os.read(fd, (1 << 17) - n % 3 * 1001)
            if not part:
                break
            parts.append(part)
            n += 1
            if n % 20 == 0:
                some_events()
        os.close(fd)
        return b"".join(parts).decode()

    for names in (("allocs",), ("device0", "allocs"), ("pids", str(os.getpid()), "allocs")):
        title = "/".join(names[:2:] if names[0] != "pids" else ("pids", "allocs"))
        with Timer(title + ", read between events"):
            text = read_table(*names)
        lines = text.split("\n")
        r.eq(title + ": header", ALLOCS_HEADER, lines[0])
        r.eq(title + ": last line is whole", "", lines[-1])
        match = ALLOCS_LINE.fullmatch
        torn = [line for line in lines[1:-1] if not match(line)]
        r.eq(title + ": no torn line", [], torn[:3])
        check(title, (int(line.split(" ", 3)[2], 16) for line in lines[1:-1]))
        seqs = [int(line.split(" ")[8]) for line in lines[1:-1]]
        r.eq(title + ": seq is unique", len(seqs), len(set(seqs)))

    with Timer("cat allocs"):
        out = subprocess.run(["cat", mount.join("allocs")], stdout=subprocess.PIPE, check=True).stdout
    check("cat allocs", (int(line.split(b" ", 3)[2], 16) for line in out.split(b"\n")[1:-1]))

    with Timer("ls device0/dram"):
        out = subprocess.run(["ls", mount.join("device0", "dram")], stdout=subprocess.PIPE, check=True).stdout
    check("ls", (int(name, 16) for name in out.split()))
    with Timer("ls -f device0/dram"):
        out = subprocess.run(["ls", "-f", mount.join("device0", "dram")], stdout=subprocess.PIPE, check=True).stdout
    names = out.split()
    r.eq("ls -f: . and ..", 2, names.count(b".") + names.count(b".."))
    check("ls -f", (int(name, 16) for name in names if not name.startswith(b".")))

    def scan():
        with os.scandir(mount.join("device0", "dram")) as entries:
            for n, entry in enumerate(entries):
                if n % 5000 == 0:
                    some_events()
                yield int(entry.name, 16)

    with Timer("scandir between events"):
        check("scandir", scan())

    with Timer("cat device0/map"):
        lines = mount.lines("device0", "map")
    r.eq("map: header", MAP_HEADER, lines[0])
    used = [line.split(" ") for line in lines[1:] if " used " in line]
    check("map", (int(w[0], 16) for w in used))
    starts = [int(w[0], 16) for w in used]
    r.eq("map: in order", sorted(starts), starts)

    # one record among so many, while all that goes on
    with Timer("1000 records"):
        for i in range(0, count, max(1, count // 1000)):
            name = "0x%012x" % (BASE + i * STEP)
            r.eq("record", name, mount.keyed("device0", "dram", name)["address"])

    os.kill(child, signal.SIGTERM)
    r.eq("the other sender", 0, os.waitpid(child, 0)[1])
    mount.barrier()
    left = place - (place - place // 3)
    r.eq("live at the end", count + left, mount.stat("live_buffers"))
    summary_times("cat device0/summary, after all")
    with Timer("freeing all"):
        send_many(s, lambda i: s.free(0, BASE + i * STEP), count)
        send_many(s, lambda i: s.free(0, OTHER + (i + 1) * 3 * 64), left)
        r.eq("nothing is left", (0, 0), mount.device(0)["total"][:2])
    r.eq("nothing odd", ["0"] * 5, [mount.stats()[k] for k in ("unknown_frees", "double_frees", "foreign_frees",
                                                              "events_lost", "refused_events")])
    r.eq("ls", [], os.listdir(mount.join("device0", "dram")))
    print("memory after all was freed: %d B by stats, %d B RSS" % (mount.stat("memory_bytes"), rss()))
    return r.end("%d buffers" % count)


if __name__ == "__main__":
    sys.exit(main())
