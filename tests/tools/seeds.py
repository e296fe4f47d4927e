#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""seeds.py MOUNT PROGRAM RUNS LEAKS SEED: judges a server by what leak-seeds (leak-seeds.c) has sown.

RUNS runs without a leak must make no suspect. LEAKS leaks of all kinds, among the same events, must all be suspected,
with reason, size, references, owner, tag and the function that allocated them, and nothing else. First come those with
marks, for which there must have been no `clear`. One process follows the other, since what one of them holds between
another's `clear` and `scan` would have outlived that.
"""
import os
import random
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import Mount, Report  # noqa: E402

KINDS = ("growing", "exit", "outlived", "refs", "killed")
BOUND_S = 60 * int(os.environ.get("TT_TIME_SCALE", "1"))


class Judge:
    def __init__(self, mount, program, seed):
        self.mount = mount
        self.program = program
        self.random = random.Random(seed)
        self.report = Report()
        self.found = {}    # reason: leaks that were suspected for it
        self.looks = 0
        self.seen = {}     # site: function it must have

    def ctl(self, command):
        with open(self.mount.join("ctl"), "w", encoding="utf-8") as f:
            f.write(command)

    def function(self, site, starts):
        """The function that made the allocation, by the address to which it returns."""
        frame = next(line for line in self.mount.lines("stacks", site) if line.startswith("  "))
        offset = int(frame.split()[0], 16)
        return max((start, name) for name, start in starts.items() if start <= offset)[1]

    def look(self, what, pid, leaks, starts, state):
        """What is suspected is exactly that."""
        self.looks += 1
        rows = self.mount.suspects()
        got = [(r[0], *r[1:7], r[8], r[13], self.function(r[12], starts) if r[12] != "-" else "-") for r in rows]
        want = [(leak[0] if state == "live" else "died", *leak[1:6], pid, state, leak[7], leak[6]) for leak in leaks]
        self.report.eq(what + ": missed", [], sorted(set(want) - set(got)))
        self.report.eq(what + ": suspected without a leak", [], sorted(set(got) - set(want)))
        self.report.eq(what + ": as many", len(want), len(got))
        self.report.eq(what + ": leaks/", len(rows), len(os.listdir(self.mount.join("leaks"))))
        self.seen.update({row[12]: leak[9] for row, leak in zip(rows, got)})

    def process(self, kind, runs, count):
        """One process of leak-seeds, from its beginning to its end."""
        seed = self.random.getrandbits(63)
        args = [self.program, kind, str(seed), str(runs), str(count)]
        what = " ".join(args[1:])
        starts, leaks, numbers = {}, [], set()
        with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as p:
            for line in p.stdout:
                w = line.split()
                if w[0] == "site":
                    starts[w[1]] = int(w[2], 16)
                elif w[0] == "leak":
                    numbers.add(int(w[1]))
                    leaks.append((w[2], int(w[3]), w[4], int(w[5], 16), int(w[6]), int(w[7]), w[8], w[9]))
                elif w[0] == "clear":
                    self.ctl("clear")
                else:
                    self.ctl("scan")
                    self.look(what + ", while it runs", p.pid, leaks, starts, "live")
                if w[0] in ("clear", "look"):
                    p.stdin.write("done\n")
                    p.stdin.flush()
        self.report.eq(what + ": exit status", -9 if kind == "killed" and count else 0, p.returncode)
        self.report.eq(what + ": leaks sown", set(range(count)), numbers)
        self.look(what + ", at its end", p.pid, leaks, starts, "dead")
        if count:
            self.ctl("clean dead")

    def names(self):
        """The functions of all call sites seen also have their names. Those are looked up by another process."""
        end = time.monotonic() + BOUND_S
        for site, function in sorted(self.seen.items()):
            while True:
                frame = next(line for line in self.mount.lines("stacks", site) if line.startswith("  "))
                name = frame.split()[1]
                if name != "-" or time.monotonic() > end:
                    break
            self.report.eq("name of the function of site " + site, function, re.sub("@.*", "", name))


def main():
    mount, program = Mount(sys.argv[1]), sys.argv[2]
    runs, leaks, seed = (int(a) for a in sys.argv[3:])
    judge = Judge(mount, program, seed)
    sown = dict.fromkeys(KINDS, 0)
    clean = dict.fromkeys(KINDS, 0)
    for i, kind in enumerate(KINDS):
        # A process of the kinds that are looked at only at their end makes one run.
        share = {"growing": 0.45, "exit": 0.1, "outlived": 0.45}.get(kind, 0) * runs
        each = 1 if kind == "exit" else 25
        quota = leaks // len(KINDS) + (i < leaks % len(KINDS))
        while clean[kind] < share:
            judge.process(kind, each, 0)
            clean[kind] += each
        while sown[kind] < quota:
            count = min(judge.random.randint(1, 4), quota - sown[kind])
            judge.process(kind, 1 + judge.random.randint(0, 1), count)
            sown[kind] += count
    judge.names()
    judge.report.ok("all runs were made", sum(clean.values()) >= runs, clean)
    judge.report.eq("all leaks were sown", leaks, sum(sown.values()))
    for key in ("unknown_frees", "double_frees", "foreign_frees", "events_lost", "refused_events", "live_buffers"):
        judge.report.eq(key, 0, mount.stat(key))
    print("%d clean runs, leaks: %s; %d looks, %d call sites"
          % (sum(clean.values()), sown, judge.looks, len(judge.seen)))
    return judge.report.end("seeds, seed %d" % seed)


if __name__ == "__main__":
    sys.exit(main())
