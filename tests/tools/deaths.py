#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""deaths.py MOUNT SOCKET ROUNDS: processes that kill themselves; each time the next look finds exactly what they held.

The look is another one each time: suspects, leaks/, processes, stats.
"""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import Mount, Report  # noqa: E402
import ttsend  # noqa: E402


def main():
    mount, path, rounds = Mount(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    r = Report()
    rng = random.Random(2)
    for i in range(rounds):
        count = rng.randrange(1, 60)
        freed = rng.randrange(0, count)
        pid = os.fork()
        if pid == 0:
            s = ttsend.Sender(path, rng.choice(ttsend.DIALECTS))
            for k in range(count):
                s.alloc(i % 4, "dram", 0x1000 * (k + 1), 512 + k)
            for k in range(freed):
                s.free(i % 4, 0x1000 * (k + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        want = sorted((0x1000 * (k + 1), 512 + k) for k in range(freed, count))
        for look in range(4):
            look = (i + look) % 4
            where = "death %d, look %d" % (i, look)
            if look == 0:
                r.eq(where + ": suspects", want, sorted((s[3], s[4]) for s in mount.suspects() if s[6] == pid))
            elif look == 1:
                prefix = "pid%d-device%d-dram-" % (pid, i % 4)
                names = [n for n in os.listdir(mount.join("leaks")) if n.startswith(prefix)]
                r.eq(where + ": leaks/", [a for a, _ in want], sorted(int(n[len(prefix):].split("-")[0], 16)
                                                                      for n in names))
            elif look == 2:
                rows = mount.processes().get(pid, [{}])
                r.eq(where + ": processes", ("dead", str(count + freed), str(len(want)), str(sum(s for _, s in want))),
                     tuple(rows[-1].get(k) for k in ("state", "events", "live", "bytes")))
            else:
                r.eq(where + ": stats", len(want), mount.stat("suspects"))
        with open(mount.join("ctl"), "w", encoding="utf-8") as f:
            f.write("clean dead\n" if i % 2 else "clean %d\n" % pid)
        r.eq("death %d: cleaned" % i, 0, mount.stat("live_buffers"))
        if r.failures > 40:
            break
    return r.end("%d deaths" % rounds)


if __name__ == "__main__":
    sys.exit(main())
