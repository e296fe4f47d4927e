#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""many.py MOUNT SOCKET: thousands of connections; slow, silent, greedy and malformed senders; nobody else notices."""
import os
import resource
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import Mount, Report  # noqa: E402
import ttsend  # noqa: E402

SENDERS = 2500  # from this process, and as many from others


def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(path)
    return s


def ended(sock):
    """True when the server has closed the connection (waits for that)."""
    sock.settimeout(60)  # a bound
    try:
        while sock.recv(65536):
            pass
        return True
    except (ConnectionResetError, BrokenPipeError):
        return True
    except socket.timeout:
        return False


def main():
    mount, path = Mount(sys.argv[1]), sys.argv[2]
    r = Report()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(SENDERS, hard // 2 - 200)
    if count < SENDERS:
        print("only %d connections: the limit of open files is %d" % (2 * count, hard))

    good = ttsend.Sender(path, 112)
    where = 0

    def good_rounds(title, rounds):
        nonlocal where
        for _ in range(rounds):
            where += 1
            name = "0x%012x" % (where * 16)
            good.alloc(900, "dram", where * 16, where)
            r.eq(title + ": the good one's record", str(where), mount.keyed("device900", "dram", name).get("size"))
            r.eq(title + ": the good one's query", where, good.query(900)["dram"])
            good.free(900, where * 16)
            r.eq(title + ": freed", [], os.listdir(mount.join("device900", "dram")))

    good_rounds("alone", 10)
    before = mount.stats()

    def more(key):
        return mount.stat(key) - int(before[key])

    # ---- many connections of one process ----
    socks = []
    for i in range(count):
        s = ttsend.Sender(path, ttsend.DIALECTS[i % 4])
        s.alloc(i % 8, "dram", 0x1000 * (i + 1), 100 + i)
        socks.append(s)
    r.eq("clients", count, more("clients"))
    r.eq("live", count, more("live_buffers"))
    r.eq("bytes", sum(100 + i for i in range(count)), more("live_bytes"))
    r.eq("one process", 1, len(mount.processes()))
    good_rounds("beside %d connections" % count, 100)

    # ---- as many of other processes ----
    children = []
    for k in range(10):
        ready_r, ready_w = os.pipe()
        stay_r, stay_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(stay_w)
            for _, fd in children:
                os.close(fd)
            for s in socks:
                s.sock.close()
            mine = []
            for i in range(count // 10):
                s = ttsend.Sender(path, ttsend.DIALECTS[i % 4])
                s.alloc(i % 8, "l1", 0x1000 * (i + 1), 7)
                mine.append(s)
            os.write(ready_w, b".")
            os.read(stay_r, 1)
            os._exit(0)
        os.close(ready_w)
        os.close(stay_r)
        r.eq("child %d" % k, b".", os.read(ready_r, 1))
        os.close(ready_r)
        children.append((pid, stay_w))
    r.eq("clients", count + count // 10 * 10, more("clients"))
    r.eq("live", count + count // 10 * 10, more("live_buffers"))
    r.eq("processes", {os.getpid()} | {pid for pid, _ in children}, set(mount.processes()))
    good_rounds("beside twice as many", 100)
    for pid, fd in children:
        os.close(fd)
        os.waitpid(pid, 0)
    r.eq("clients, the others ended", count, more("clients"))
    r.eq("what they held", count // 10 * 10, mount.stat("suspects"))
    with open(mount.join("ctl"), "w", encoding="utf-8") as f:
        f.write("clean dead\n")

    # ---- silent, slow ----
    silent = [connect(path) for _ in range(200)]
    slow = []
    for i in range(200):
        s = connect(path)
        s.sendall(ttsend.message(144, ttsend.ALLOC, 20, 50 + i, 0, os.getpid(), 0x1000 * (i + 1), 0)[:1 + i % 39])
        slow.append(s)
    mount.barrier()
    r.eq("no event of the slow", False, 20 in mount.devices())
    good_rounds("beside the silent and the slow", 100)
    for i, s in enumerate(slow):
        m = ttsend.message(144, ttsend.ALLOC, 20, 50 + i, 0, os.getpid(), 0x1000 * (i + 1), 0)
        s.sendall(m[1 + i % 39:40])  # the event is complete with 40 bytes
    r.eq("the slow ones' events", (200, sum(50 + i for i in range(200))), mount.device(20)["dram"][:2])
    for s in slow:
        s.sendall(b"\0" * 104)
    r.eq("no malformed sender yet", 0, more("malformed_senders"))
    for s in silent + slow:
        s.close()
    mount.barrier()
    r.eq("clients, those closed", count, more("clients"))
    r.eq("closing at a message's end is fine", 0, more("malformed_senders"))

    # ---- malformed: that connection ends, its booked events stay, a line and a count ----
    def good_message(dialect, n):
        return ttsend.message(dialect, ttsend.ALLOC, 21, 10, 0, os.getpid(), 0x1000 * n, 0)

    def spoil(data, at, value):
        return data[:at] + bytes([value]) + data[at + 1:]

    zero = good_message(72, 0)
    cases = [
        ("type 0", b"\0" * 200, 0),
        ("type 13", spoil(zero, 0, 13) * 3, 0),
        ("type 255", b"\xff" * 200, 0),
        ("a dialect of 73 bytes", good_message(72, 1) + b"\0" + good_message(72, 2), 1),
        ("a dialect of 41 bytes", good_message(72, 3)[:41] + b"\1" * 200, 1),
        ("text", b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n\r\n" + b"x" * 200, 0),
        ("second message of type 0, 72", good_message(72, 4) + good_message(72, 5) + b"\0" * 72, 2),
        ("second message of type 14, 112", good_message(112, 6) + good_message(112, 7) + spoil(good_message(112, 0),
                                                                                              0, 14), 2),
        ("a tail that is not zero, 128", good_message(128, 8) + spoil(good_message(128, 9), 100, 7)
         + good_message(128, 10), 2),
        ("a tail that is not zero, 144", good_message(144, 11) + spoil(good_message(144, 12), 143, 1), 2),
        ("a type that 72 has not", good_message(72, 13) + good_message(72, 14)
         + ttsend.message(72, ttsend.CB_ALLOC, 21, 10, 0, 0, 0x900000, 0) + good_message(72, 15), 2),
        ("a type that 112 has not", good_message(112, 16) + good_message(112, 17)
         + ttsend.message(112, ttsend.KERNEL_LOAD, 21, 10, 0, 0, 0x900000, 0) + good_message(112, 18), 2),
        ("a dialect change", good_message(144, 19) + good_message(72, 20) + good_message(72, 21), 2),
    ]
    held = 0
    for n, (title, data, booked) in enumerate(cases):
        s = connect(path)
        try:
            s.sendall(data)
        except OSError:
            pass
        r.ok("malformed, %s: the connection ends" % title, ended(s))
        s.close()
        held += booked
        r.eq("malformed, %s: booked events stay" % title, held, mount.device(21)["total"][0] if held else 0)
        r.eq("malformed, %s: counted" % title, n + 1, more("malformed_senders"))
        r.ok("malformed, %s: error_log" % title, mount.lines("error_log"))
    r.ok("error_log names the sender", str(os.getpid()) in mount.lines("error_log")[-1], mount.lines("error_log")[-1])
    # an end within a message
    for n, size in enumerate((1, 39, 41, 71, 73, 143)):
        s = connect(path)
        s.sendall(good_message(144, 100 + n)[:size])
        s.shutdown(socket.SHUT_WR)
        r.ok("cut at %d: the connection ends" % size, ended(s))
        s.close()
        held += size >= 40
        r.eq("cut at %d: counted" % size, len(cases) + n + 1, more("malformed_senders"))
        r.eq("cut at %d: booked events stay" % size, held, mount.device(21)["total"][0])
    good_rounds("after the malformed", 100)

    # ---- one that asks and never reads ----
    greedy = connect(path)
    question = ttsend.message(144, ttsend.QUERY, 0)
    asked = 0
    try:
        while asked < 1000000:
            greedy.sendall(question * 100)
            asked += 100
            if asked % 10000 == 0:
                good_rounds("beside the greedy", 1)
        r.fail("who never reads is never ended")
    except (BrokenPipeError, ConnectionResetError):
        r.ok("who never reads is ended", asked < 1000000)
    greedy.close()
    good_rounds("after the greedy", 10)
    r.eq("the others are still connected", count, more("clients"))

    # ---- one that closes its sending side still gets its answer ----
    s = connect(path)
    s.sendall(ttsend.message(112, ttsend.QUERY, 20))
    s.shutdown(socket.SHUT_WR)
    reply = b""
    while True:
        part = s.recv(4096)
        if not part:
            break
        reply += part
    r.eq("half-closed: a whole reply", 112, len(reply))
    r.eq("half-closed: its content", sum(50 + i for i in range(200)), ttsend.parse_reply(reply)["dram"])
    s.close()

    # ---- the ceiling of clients ----
    option = mount.join("options", "max_clients")
    mount.barrier()
    with open(option, "w", encoding="utf-8") as f:
        f.write("%d\n" % (mount.stat("clients") + 1))
    last = ttsend.Sender(path, 72)
    last.alloc(22, "dram", 16, 1)
    r.eq("the last client that fits", 1, mount.device(22)["dram"][0])
    refused = connect(path)
    r.ok("one more is turned away", ended(refused))
    refused.close()
    r.eq("and counted", 1, more("refused_clients"))
    last.close()
    mount.barrier()
    again = ttsend.Sender(path, 72)
    again.alloc(22, "dram", 32, 1)
    r.eq("there is room again", 2, mount.device(22)["dram"][0])
    good_rounds("at the ceiling", 10)

    # ---- all of them are still good ----
    with open(option, "w", encoding="utf-8") as f:
        f.write("16384\n")
    for i, s in enumerate(socks):
        s.free(i % 8, 0x1000 * (i + 1))
    r.eq("the many: freed", [0] * 8, [mount.device(d)["total"][0] for d in range(8)])
    for s in socks:
        s.close()
    mount.barrier()
    r.eq("clients at the end", 1, more("clients"))  # `again`
    return r.end("many")


if __name__ == "__main__":
    sys.exit(main())
