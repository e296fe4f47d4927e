#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends whole streams of existing clients to a server, cut in every way, and compares the mount with the model.

    replay.py --mount DIR --socket PATH --how HOW STREAM...

STREAM is a recorded file (*.c2s; its *.s2c and expected.json beside it are honoured) or `synth:DIALECT[:MESSAGES]`,
a stream of the same shape made here. One process per stream, all at once; they stay connected, as clients do, while
the files are read. HOW:

    whole     one send
    bytes     one byte per send; the server gets every byte of the first messages alone
    cuts      cut at 200 random places; the server gets every piece alone
    mixed     random pieces without pause: with several streams they interleave
    ask       message by message, each reply awaited, as the monitor does

In a recorded stream the process id is the one that the recording program had; it is replaced by the sender's own, so
that the stream says what such a client says. --as-recorded leaves it (a pid that means nothing here, and must not be
believed: run it in a pid namespace of its own, then it certainly is nobody).
"""
import argparse
import json
import os
import random
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import Model  # noqa: E402
from tools.mount import Mount, Report, compare  # noqa: E402
import ttsend  # noqa: E402

SEED = 20261120
T0 = 1795155700000000000


def synth(dialect, messages, private):
    """A stream of one dialect: weights, churn with reuse at other sizes, references, double and unknown frees, on
    devices 0..7; circular buffers and kernels where the dialect has them; queries, a dump, refused events.

    `private` numbers the sender: the addresses that it frees without owning them are its own, since with several
    senders at once they would otherwise be somebody else's buffers or not, depending on the order.
    """
    rng = random.Random(SEED + dialect)
    out = []
    now = T0 + dialect * 1000000000

    def put(kind, device=0, size=0, buffer_type=0, address=0, timed=False):
        nonlocal now
        now += 1001
        out.append(ttsend.message(dialect, kind, device, size, buffer_type, os.getpid(), address, now if timed else 0))

    def alloc(device, buffer_type, address, size):
        put(ttsend.ALLOC, device, size, buffer_type, address, timed=True)

    weights = 0
    while len(out) < messages:
        device = rng.randrange(8)
        what = rng.randrange(20)
        l1 = 0x170000 - 0x8000 * rng.randrange(8)
        if what < 4:
            alloc(device, 0, 0x40000000 + weights * 0x8000, 12288 * rng.randrange(1, 4))
            weights += 1
        elif what < 10:
            alloc(device, 1, l1, 4096 * rng.randrange(1, 8))
            if rng.randrange(4) == 0:
                alloc(device, 1, l1, 4096 * rng.randrange(1, 8))
                put(ttsend.FREE, device, address=l1)
            put(ttsend.FREE, device, address=l1)
            if rng.randrange(8) == 0:
                put(ttsend.FREE, device, address=l1)
        elif what < 12:
            alloc(device, rng.choice((2, 3, 4)), 0x7000000 + 0x1000 * rng.randrange(16), 1024)
        elif what == 12:
            put(ttsend.FREE, rng.randrange(8), address=0xdead0000000 + (private << 24) + 16 * rng.randrange(64))
        elif what == 13:
            put(ttsend.QUERY, device)
        elif what == 14 and dialect != 72:
            put(ttsend.INFO_QUERY, rng.choice((-1, 0, 5)))
        elif what == 15:
            alloc(rng.choice((-1, 1024, 5)), 9, 0x100, 1)
        elif what == 16 and rng.randrange(40) == 0:
            put(ttsend.DUMP)
        elif what > 16 and dialect >= 128:
            if rng.randrange(2):
                put(ttsend.CB_ALLOC, device, 2048 * rng.randrange(1, 4), 0, 0x20000 + 0x1000 * rng.randrange(4),
                    timed=True)
                if rng.randrange(4):
                    put(ttsend.CB_FREE, device, 2048, 0, 0x20000 + 0x1000 * rng.randrange(4))
            else:
                kernel = 0x1000 + rng.randrange(256)
                put(ttsend.KERNEL_LOAD, device, 8192 + 64 * (kernel & 31), rng.randrange(3), kernel, timed=True)
                if rng.randrange(2):
                    put(ttsend.KERNEL_UNLOAD, device, 8192, 0, kernel)
    return b"".join(out)


def load(name, number, as_recorded):
    """(title, bytes, recorded replies or None, expectation or None)"""
    if name.startswith("synth:"):
        parts = name.split(":")
        dialect = int(parts[1])
        return name, synth(dialect, int(parts[2]) if len(parts) > 2 else 1500, number), None, None
    with open(name, "rb") as f:
        data = bytearray(f.read())
    if not as_recorded:
        dialect, heads = ttsend.split(bytes(data))
        for i, head in enumerate(heads):
            if head[4]:
                struct.pack_into("<i", data, i * dialect + 20, os.getpid())
    replies = expected = None
    folder, base = os.path.split(name)
    if os.path.exists(name[:-4] + ".s2c"):
        with open(name[:-4] + ".s2c", "rb") as f:
            replies = f.read()
    if os.path.exists(os.path.join(folder, "expected.json")):
        with open(os.path.join(folder, "expected.json"), encoding="utf-8") as f:
            expected = json.load(f).get(base)
    return base, bytes(data), replies, expected


def pieces(data, how, dialect, seed):
    """(bytes, alone) in order; alone = the server has taken them before the next is sent"""
    rng = random.Random(seed)
    if how == "whole":
        return [(data, False)]
    if how == "bytes":
        alone = 12 * dialect
        return [(data[i:i + 1], i < alone) for i in range(len(data))]
    if how == "cuts":
        at = sorted(rng.sample(range(1, len(data)), min(200, len(data) - 1)))
        return [(data[a:b], True) for a, b in zip([0] + at, at + [len(data)])]
    if how == "mixed":
        parts = []
        i = 0
        while i < len(data):
            n = rng.randrange(1, 400)
            parts.append((data[i:i + n], False))
            i += n
        return parts
    assert how == "ask"
    return [(data[i:i + dialect], False) for i in range(0, len(data), dialect)]


def sender(args, number, name, go, answer, stay):
    """The child: sends, then waits. Tells how it went in one JSON line, and the replies' bytes in hex."""
    _, data, _, _ = load(name, number, args.as_recorded)
    dialect, heads = ttsend.split(data)
    asked = sum(h[0] in (ttsend.QUERY, ttsend.INFO_QUERY) for h in heads)
    plan = pieces(data, args.how, dialect, SEED + number)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(args.socket)
    os.read(go, 1)
    barrier = Mount(args.mount).barrier
    replies = b""

    def receive(size):
        got = b""
        while len(got) < size:
            more = sock.recv(size - len(got))
            if not more:
                break
            got += more
        return got

    for part, alone in plan:
        sock.sendall(part)
        if alone:
            barrier()
        if args.how == "ask" and part[0] in (ttsend.QUERY, ttsend.INFO_QUERY):
            replies += receive(dialect)
    replies += receive(asked * dialect - len(replies))
    barrier()
    try:
        extra = len(sock.recv(4096, socket.MSG_DONTWAIT))
    except BlockingIOError:
        extra = -1  # nothing more, and still connected
    told = {"pid": int(os.readlink("/proc/self")), "data": data.hex(), "replies": replies.hex(), "extra": extra}
    with os.fdopen(answer, "w") as f:
        f.write(json.dumps(told))
    os.read(stay, 1)
    os._exit(0)


def expected_replies(data):
    """What the replies to one sender on a fresh server say: a list of dicts."""
    model = Model()
    owner = model.process(1)
    dialect, heads = ttsend.split(data)
    wanted = []
    for head in heads:
        model.message(owner, dialect, *head)
        if head[0] == ttsend.QUERY:
            device = model.devices.get(head[1])
            want = dict.fromkeys(ttsend.REPLY_FIELDS[dialect], 0)
            want.update({"type": ttsend.RESPONSE, "device": head[1], "dialect": dialect})
            for i, kind in enumerate(ttsend.TYPES):
                if kind in ttsend.REPLY_FIELDS[dialect]:
                    want[kind] = device.types[i].bytes if device else 0
            wanted.append(want)
        elif head[0] == ttsend.INFO_QUERY:
            want = dict.fromkeys(ttsend.REPLY_FIELDS[dialect], 0)
            known = [n for n, d in model.devices.items() if d.total.allocs]
            want.update({"type": ttsend.INFO_RESPONSE, "device": head[1], "dialect": dialect,
                         "num_devices": max(known, default=-1) + 1,
                         "is_available": int(head[1] == -1 and bool(known))})
            wanted.append(want)
    return wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mount", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--how", required=True, choices=("whole", "bytes", "cuts", "mixed", "ask"))
    parser.add_argument("--as-recorded", action="store_true")
    parser.add_argument("streams", nargs="+")
    args = parser.parse_args()
    signal.alarm(600)  # a bound only: a hang is a failure

    report = Report()
    mount = Mount(args.mount)
    children = []
    for number, name in enumerate(args.streams):
        go_r, go_w = os.pipe()
        answer_r, answer_w = os.pipe()
        stay_r, stay_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            for fd in [go_w, answer_r, stay_w] + [fd for c in children for fd in c[1:]]:
                os.close(fd)
            sender(args, number, name, go_r, answer_w, stay_r)
        for fd in (go_r, answer_w, stay_r):
            os.close(fd)
        children.append((pid, go_w, answer_r, stay_w))
    for _, go, _, _ in children:
        os.write(go, b"g")

    model = Model()
    told = []
    for number, (name, child) in enumerate(zip(args.streams, children)):
        title = "%s %s" % (os.path.basename(name), args.how)
        answer = b""
        while True:
            more = os.read(child[2], 1 << 16)
            if not more:
                break
            answer += more
        if not report.ok(title + ": the sender got through", answer):
            continue
        answer = json.loads(answer)
        told.append(answer)
        data, replies = bytes.fromhex(answer["data"]), bytes.fromhex(answer["replies"])
        owner = model.process(answer["pid"], os.getuid())
        dialect = model.stream(owner, data)
        report.eq(title + ": nothing more comes, connection open", -1, answer["extra"])

        _, _, recorded, expected = load(name, number, args.as_recorded)
        wanted = expected_replies(data)
        report.eq(title + ": bytes of replies", len(wanted) * dialect, len(replies))
        for i, want in enumerate(wanted):
            got = ttsend.parse_reply(replies[i * dialect:(i + 1) * dialect].ljust(dialect, b"\0"))
            keys = want if len(args.streams) == 1 else ("type", "device", "dialect")
            report.eq("%s: reply %d" % (title, i), {k: want[k] for k in keys}, {k: got.get(k) for k in keys})
        if recorded is not None and len(args.streams) == 1:
            report.eq(title + ": replies as recorded", recorded.hex(), replies.hex())
        if expected is not None and len(args.streams) == 1:
            # The model agrees with expected.json (model.py --captures); say it about the mount itself all the same.
            stats = mount.stats()
            names = {"queries": "queries_total", "dumps": "dumps_total"}
            for counter, value in expected["counters"].items():
                report.eq("%s: expected.json %s" % (title, counter), str(value),
                          stats.get(names.get(counter, counter)))
            report.eq(title + ": expected.json live", (expected["live_buffers"], expected["live_bytes"]),
                      (int(stats["live_buffers"]), int(stats["live_bytes"])))
            for device, types in expected["totals"].items():
                got = mount.device(int(device[6:]))
                for kind, t in types.items():
                    report.eq("%s: expected.json %s %s" % (title, device, kind), (t["count"], t["bytes"], t["peak"]),
                              got[kind][:3])
        row = mount.processes().get(answer["pid"], [{}])[0]
        report.eq(title + ": transport", "socket%d" % dialect, row.get("transport"))
        if args.as_recorded:
            pids = {h[4] for h in ttsend.split(data)[1] if h[4]}
            if len(pids) == 1:
                report.eq(title + ": reported_pid", str(pids.pop()),
                          mount.keyed("pids", str(answer["pid"]), "status").get("reported_pid"))

    compare(report, mount, model, "%d x %s" % (len(args.streams), args.how),
            exact_peaks=len(args.streams) == 1)
    # dumps that clients ask for while one of theirs is still to begin are one
    asked, made = model.counters["dumps_total"], len(os.listdir(mount.join("dumps")))
    report.ok("dumps: asked for %d, made %d" % (asked, made), min(1, asked) <= made <= min(16, asked))
    for pid, _, _, stay in children:
        os.close(stay)
        report.eq("exit status of a sender", 0, os.waitpid(pid, 0)[1])
    for answer in told:
        row = mount.processes().get(answer["pid"], [{}])[0]
        dialect = ttsend.split(bytes.fromhex(answer["data"]))[0]
        report.eq("transport and state at the end", ("socket%d" % dialect, "dead"),
                  (row.get("transport"), row.get("state")))
    return report.end("replay %s %s%s" % (args.how, " ".join(map(os.path.basename, args.streams)),
                                          " as recorded" if args.as_recorded else ""))


if __name__ == "__main__":
    sys.exit(main())
