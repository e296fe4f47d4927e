#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""read_your_writes.py MOUNT NATIVE COMPAT ROUNDS: after send() returned, the very next access shows the event.

Odd rounds send from this process, even ones from another process whose answer over a pipe is awaited. All dialects,
both sockets. Each kind of access gets to be the first one after the event.
"""
import errno
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import Mount, Report, seconds, SUMMARY_HEADER  # noqa: E402
from tools.remote import Remote  # noqa: E402
import ttsend  # noqa: E402


class Here:
    """The same without a process of its own."""

    def __init__(self, path, dialect):
        self.sender = ttsend.Sender(path, dialect)
        self.pid = os.getpid()

    def send(self, kind, device=0, size=0, buffer_type=0, address=0, when=0):
        self.sender.message(kind, device, size, buffer_type, address, when)

    def end(self):
        self.sender.close()


def error_of(call, *args):
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "OK"


def main():
    mount, sockets, rounds = Mount(sys.argv[1]), sys.argv[2:4], int(sys.argv[4])
    r = Report()
    senders = []
    for dialect in ttsend.DIALECTS:
        senders.append(Remote(sockets[len(senders) % 2], dialect))
    for dialect in ttsend.DIALECTS:
        senders.append(Here(sockets[len(senders) % 2], dialect))
    # one buffer that stays, so that the device is there from the start
    senders[-1].send(ttsend.ALLOC, 0, 512, 0, 0x1)
    folder = mount.join("device0", "dram")
    open_record = lambda p: os.close(os.open(p, os.O_RDONLY))  # noqa: E731

    def summary_row():
        lines = mount.text("device0", "summary").split("\n")
        r.eq("header of device0/summary", SUMMARY_HEADER, lines[0])
        w = lines[1].split(" ")
        return w[0], int(w[1]), int(w[2]), int(w[6]), int(w[7])

    for i in range(rounds):
        s = senders[(i % 2) * 4 + i // 2 % 4]
        # some addresses come back, with another size and by another owner
        address = 0x40000000 + (i % 97) * 0x1000 if i % 3 else 0x100000000 + i * 0x1000
        name = "0x%012x" % address
        path = os.path.join(folder, name)
        size = 512 * (1 + i % 1000)
        when = time.time_ns()
        where = "round %d: " % i
        if i % 2:
            r.eq(where + "stat before", "ENOENT", error_of(os.stat, path))  # the kernel may remember that
        s.send(ttsend.ALLOC, 0, size, 0, address, when)
        first = i % 5
        if first == 0:
            r.eq(where + "summary", ("dram", 2, 512 + size, i + 2, i), summary_row())
        elif first == 1:
            r.eq(where + "st_blocks", i % 1000 + 1, os.stat(path).st_blocks)
        elif first == 2:
            r.eq(where + "ls", sorted(["0x000000000001", name]), sorted(os.listdir(folder)))
        elif first == 3:
            rows = [row for row in mount.allocs() if row[2] != 1]
            r.eq(where + "allocs", [(0, "dram", address, size, 1, s.pid, os.getuid())], [row[:7] for row in rows])
        record = mount.keyed("device0", "dram", name)
        r.eq(where + "record", (name, str(size), "1", str(s.pid), seconds(when)),
             tuple(record.get(k) for k in ("address", "size", "refs", "pid", "allocated")))
        r.eq(where + "summary", ("dram", 2, 512 + size, i + 2, i), summary_row())

        s.send(ttsend.FREE, 0, address=address)
        steps = [lambda: r.eq(where + "stat of the freed", "ENOENT", error_of(os.stat, path)),
                 lambda: r.eq(where + "open of the freed", "ENOENT", error_of(open_record, path)),
                 lambda: r.eq(where + "ls of the freed", ["0x000000000001"], os.listdir(folder)),
                 lambda: r.eq(where + "summary of the freed", ("dram", 1, 512, i + 2, i + 1), summary_row())]
        for k in range(4):
            steps[(i + k) % 4]()
        if r.failures > 40:
            break
    stats = mount.stats()
    r.eq("allocs_total", rounds + 1, int(stats["allocs_total"]))
    r.eq("frees_total", rounds, int(stats["frees_total"]))
    r.eq("live_buffers", 1, int(stats["live_buffers"]))
    for s in senders:
        s.end()
    return r.end("%d rounds" % rounds)


if __name__ == "__main__":
    sys.exit(main())
