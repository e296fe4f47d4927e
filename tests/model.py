#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An independent model of the booking rules (docs/protocol.md, section 3), and what the mount must say after them.

It is slow, obvious and shares no code with the server. One Model is one server; a Process is one owner. Feed it the
messages in the order in which the server gets them; where the order of concurrent senders is unknown, feed only what
does not depend on it.

The model's history is unbounded. Use it with workloads that stay inside the server's bounds (history_per_buffer, the
global bound), or a double free may be an unknown one to the server.

As a command:
    model.py --self-test              the rules, case by case
    model.py --captures DIR           every recorded stream against expected.json
"""
import argparse
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ttsend  # noqa: E402
from ttsend import TYPES  # noqa: E402

CB, KERNEL = TYPES.index("cb"), TYPES.index("kernel")
FREE_TYPES = range(5)  # what a FREE without type can mean: dram, l1, system_memory, l1_small, trace
SIZE_MAX = 1 << 56
DEVICE_MAX = 1024

COUNTERS = ("events_total", "allocs_total", "frees_total", "refs_total", "unrefs_total", "resized_total",
            "unknown_frees", "double_frees", "foreign_frees", "ambiguous_frees", "rerouted_frees", "refused_events",
            "queries_total", "dumps_total")


class Totals:
    """Of one device and type, one device, or one process."""
    __slots__ = ("count", "bytes", "peak", "allocs", "frees")

    def __init__(self):
        self.count = self.bytes = self.peak = self.allocs = self.frees = 0

    def change(self, count, size):
        self.count += count
        self.bytes += size
        if self.bytes > self.peak:
            self.peak = self.bytes

    def as_tuple(self):
        return (self.count, self.bytes, self.peak, self.allocs, self.frees)


class Process:
    __slots__ = ("pid", "uid", "started", "ended", "ended_at", "events", "faults", "types", "total")

    def __init__(self, pid, uid, started):
        self.pid = pid
        self.uid = uid
        self.started = started
        self.ended = False
        self.ended_at = None
        self.events = 0
        self.faults = {"double_frees": 0, "unknown_frees": 0, "foreign_frees": 0}
        self.types = [Totals() for _ in TYPES]
        self.total = Totals()

    def met(self, other):
        """Whether it was there when the other one was."""
        return not other.ended or self.started <= other.ended_at


class Buffer:
    __slots__ = ("device", "type", "address", "owner", "size", "refs", "time", "order", "cleared", "outlived")

    def __init__(self, device, kind, address, owner, size, time, order):
        self.device = device
        self.type = kind
        self.address = address
        self.owner = owner
        self.size = size
        self.refs = 1
        self.time = time
        self.order = order
        self.cleared = self.outlived = False

    def reason(self):
        """Why it is suspected, or None."""
        if self.cleared:
            return None
        return "died" if self.owner.ended else "outlived" if self.outlived else None

    def suspect_row(self):
        """As a tuple that equals the row's in `suspects`, up to `state`."""
        return (self.reason(),) + self.row() + ("dead" if self.owner.ended else "live",)

    def row(self):
        """As a tuple that equals the row's in `allocs`, without time, seq, site, tag and comm."""
        return (self.device, TYPES[self.type], self.address, self.size, self.refs, self.owner.pid, self.owner.uid)


class Device:
    __slots__ = ("types", "total")

    def __init__(self):
        self.types = [Totals() for _ in TYPES]
        self.total = Totals()


class Model:
    def __init__(self):
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.live = {}     # (device, type, address, owner) -> Buffer
        self.at = {}       # (device, address) -> set of live keys with a type that FREE can mean
        self.freed = {}    # (device, address) -> set of owners whose buffer was freed there
        self.devices = {}  # number -> Device
        self.own = {}      # (owner, address) -> set of live keys with a type that FREE can mean
        self.processes = []
        self.sum = Totals()  # of everything
        self.order = 0
        self.baseline = False

    def process(self, pid, uid=0, started=0):
        p = Process(pid, uid, started)
        self.processes.append(p)
        return p

    def exit(self, process, when=0):
        process.ended = True
        process.ended_at = when

    def all_live(self):
        return list(self.live.values())

    def clear(self):
        self.baseline = True
        for b in self.live.values():
            b.cleared = True

    def scan(self):
        for b in self.live.values():
            b.outlived = self.baseline

    def suspects(self):
        return [b for b in self.live.values() if b.reason()]

    def total(self):
        return (len(self.live), sum(b.size for b in self.live.values()))

    # ---- one message ----

    def stream(self, owner, data):
        dialect, heads = ttsend.split(data)
        for head in heads:
            self.message(owner, dialect, *head)
        return dialect

    def message(self, owner, dialect, kind, device, size, buffer_type, _pid, address, time):
        """Books one message of `owner` (the one that identity found) and returns what it was, as `events` calls it."""
        c = self.counters
        c["events_total"] += 1
        owner.events += 1
        if kind in (ttsend.DUMP, ttsend.DUMP_KERNELS):
            c["dumps_total"] += 1
            return "dump"
        if kind in (ttsend.QUERY, ttsend.INFO_QUERY):
            c["queries_total"] += 1
            return "query"
        allocating = kind in (ttsend.ALLOC, ttsend.CB_ALLOC, ttsend.KERNEL_LOAD)
        if (kind in (ttsend.RESPONSE, ttsend.INFO_RESPONSE)
                or not 0 <= device < DEVICE_MAX
                or allocating and not 1 <= size <= SIZE_MAX
                or kind == ttsend.ALLOC and buffer_type > 4
                or kind in (ttsend.KERNEL_LOAD, ttsend.KERNEL_UNLOAD) and buffer_type > 2):
            c["refused_events"] += 1
            return "refused"
        if allocating:
            if kind == ttsend.CB_ALLOC:
                buffer_type = CB
            elif kind == ttsend.KERNEL_LOAD:
                buffer_type = KERNEL
            return self.alloc(owner, device, buffer_type, address, size, time)
        if kind == ttsend.FREE:
            return self.fault(owner, self.free(owner, dialect, device, address))
        assert kind in (ttsend.CB_FREE, ttsend.KERNEL_UNLOAD), kind
        buffer = self.live.get((device, CB if kind == ttsend.CB_FREE else KERNEL, address, owner))
        if buffer is None:
            self.device(device)
            c["unknown_frees"] += 1
            return self.fault(owner, "unknown_free")
        return self.unref(buffer)

    @staticmethod
    def fault(owner, outcome):
        """Counts what was no free of the process's own."""
        kind = "foreign_frees" if outcome == "foreign_refused" else "%ss" % outcome
        if kind in owner.faults:
            owner.faults[kind] += 1
        return outcome

    # ---- the rules ----

    def device(self, number):
        """`device<N>` appears with its first event."""
        d = self.devices.get(number)
        if d is None:
            d = self.devices[number] = Device()
        return d

    def change(self, buffer, count, size):
        d = self.devices[buffer.device]
        for t in (d.types[buffer.type], d.total, buffer.owner.types[buffer.type], buffer.owner.total, self.sum):
            t.change(count, size)

    def alloc(self, owner, device, kind, address, size, time):
        d = self.device(device)
        key = (device, kind, address, owner)
        buffer = self.live.get(key)
        if buffer is not None:
            buffer.refs += 1
            if buffer.size == size:
                self.counters["refs_total"] += 1
                return "ref"
            self.change(buffer, 0, size - buffer.size)
            buffer.size = size
            self.counters["resized_total"] += 1
            return "resize"
        self.order += 1
        buffer = self.live[key] = Buffer(device, kind, address, owner, size, time, self.order)
        if kind in FREE_TYPES:
            self.at.setdefault((device, address), set()).add(key)
            self.own.setdefault((owner, address), set()).add(key)
        self.counters["allocs_total"] += 1
        for t in (d.types[kind], d.total, owner.types[kind], owner.total):
            t.allocs += 1
        self.change(buffer, 1, size)
        return "alloc"

    def unref(self, buffer):
        buffer.refs -= 1
        if buffer.refs:
            self.counters["unrefs_total"] += 1
            return "unref"
        key = (buffer.device, buffer.type, buffer.address, buffer.owner)
        del self.live[key]
        if buffer.type in FREE_TYPES:
            self.at[(buffer.device, buffer.address)].discard(key)
            self.own[(buffer.owner, buffer.address)].discard(key)
            self.freed.setdefault((buffer.device, buffer.address), set()).add(buffer.owner)
        self.counters["frees_total"] += 1
        d = self.devices[buffer.device]
        for t in (d.types[buffer.type], d.total, buffer.owner.types[buffer.type], buffer.owner.total):
            t.frees += 1
        self.change(buffer, -1, -buffer.size)
        return "free"

    def free(self, owner, dialect, device, address):
        c = self.counters
        self.device(device)
        everywhere = [self.live[k] for k in self.own.get((owner, address), ())]
        own = [b for b in everywhere if b.device == device]
        if own:
            if len(own) > 1:
                c["ambiguous_frees"] += 1
            return self.unref(max(own, key=lambda b: b.order))
        # 1. the clients that always say device 0
        if device == 0 and dialect in (72, 112) and len(everywhere) == 1:
            c["rerouted_frees"] += 1
            return self.unref(everywhere[0])
        # 2. this very process freed one there
        freed = self.freed.get((device, address), ())
        if owner in freed:
            c["double_frees"] += 1
            return "double_free"
        # 3. somebody else's
        there = [self.live[k] for k in self.at.get((device, address), ())]
        there = [b for b in there if owner.met(b.owner)]
        same = [b for b in there if b.owner.uid == owner.uid]
        if len(same) == 1:
            c["foreign_frees"] += 1
            self.unref(same[0])
            return "foreign_free"
        if there:
            c["foreign_frees"] += 1
            return "foreign_refused"
        # 4. another process of the same user freed one there
        if any(p.uid == owner.uid and owner.met(p) for p in freed):
            c["double_frees"] += 1
            return "double_free"
        # 5.
        c["unknown_frees"] += 1
        return "unknown_free"


# ---- as a command ----

def check_captures(directory):
    with open(os.path.join(directory, "expected.json"), encoding="utf-8") as f:
        expected = json.load(f)
    bad = 0

    def eq(what, want, got):
        nonlocal bad
        if want != got:
            bad += 1
            print("FAIL %s: expected %r, got %r" % (what, want, got))

    for name, want in sorted(expected.items()):
        with open(os.path.join(directory, name), "rb") as f:
            data = f.read()
        m = Model()
        owner = m.process(1)
        dialect = m.stream(owner, data)
        eq(name + " dialect", want["dialect"], dialect)
        eq(name + " events", want["events"], owner.events)
        eq(name + " live", (want["live_buffers"], want["live_bytes"]), m.total())
        for counter, value in want["counters"].items():
            ours = {"queries": "queries_total", "dumps": "dumps_total"}.get(counter, counter)
            eq("%s %s" % (name, counter), value, m.counters[ours])
        got = {}
        for number, d in m.devices.items():
            for kind, t in zip(TYPES, d.types):
                if t.allocs:
                    got.setdefault("device%d" % number, {})[kind] = {"count": t.count, "bytes": t.bytes,
                                                                      "peak": t.peak}
        eq(name + " totals", want["totals"], got)
        print("%s: dialect %d, %d events, %d live" % (name, dialect, owner.events, len(m.live)))
    return bad


def self_test():
    """Each row of the table and each step of the order of a FREE, by hand."""
    A, F = ttsend.ALLOC, ttsend.FREE
    bad = 0

    def run(title, steps, counters, live, dialect=144):
        """steps: (process, kind, device, type, address, size) -> wanted name, or (process, "exit")"""
        nonlocal bad
        m = Model()
        people = {n: m.process(i + 100, uid) for i, (n, uid) in enumerate((("a", 1), ("b", 1), ("c", 1), ("x", 2)))}
        for step, want in steps:
            if step[1] == "exit":
                m.exit(people[step[0]], 5)
                continue
            if step[1] == "comes":
                people[step[0]] = m.process(104, 1, 6)
                continue
            who, kind, device, buffer_type, address, size = step
            got = m.message(people[who], dialect, kind, device, size, buffer_type, 0, address, 0)
            if got != want:
                bad += 1
                print("FAIL %s: %r: expected %s, got %s" % (title, step, want, got))
        for name, value in m.counters.items():
            if name != "events_total" and value != counters.get(name, 0):
                bad += 1
                print("FAIL %s: %s: expected %d, got %d" % (title, name, counters.get(name, 0), value))
        rows = sorted((b.device, b.type, b.address, b.size, b.refs, b.owner.pid - 100) for b in m.all_live())
        if rows != sorted(live):
            bad += 1
            print("FAIL %s: live: expected %r, got %r" % (title, live, rows))
        for d in m.devices.values():
            for i, t in enumerate(d.types):
                held = [b for b in m.all_live() if m.devices[b.device] is d and b.type == i]
                if (t.count, t.bytes) != (len(held), sum(b.size for b in held)):
                    bad += 1
                    print("FAIL %s: totals of type %d do not equal the sum" % (title, i))

    def judge(title, steps, want):
        """steps: "clear", "scan", "exit", or an address at which a buffer is made"""
        nonlocal bad
        m = Model()
        p = m.process(1)
        for step in steps:
            if step == "exit":
                m.exit(p)
            elif isinstance(step, str):
                getattr(m, step)()
            else:
                m.message(p, 144, A, 0, 100, 0, 0, step, 0)
        got = [(b.address, b.reason()) for b in m.suspects()]
        if got != want:
            bad += 1
            print("FAIL %s: suspects: expected %r, got %r" % (title, want, got))

    judge("no baseline", (1, "scan"), [])
    judge("after the baseline, before the scan", (1, "clear", 2, "scan", 3), [(2, "outlived")])
    judge("an end", (1, "clear", 2, "scan", 3, "exit"), [(2, "died"), (3, "died")])
    judge("cleared again", (1, "clear", 2, "scan", "clear", "scan", "exit"), [])

    a0 = ("a", A, 0, 0, 16, 100)
    run("alloc, free", [(a0, "alloc"), (("a", F, 0, 0, 16, 0), "free")], {"allocs_total": 1, "frees_total": 1}, [])
    run("reference", [(a0, "alloc"), (a0, "ref"), (("a", F, 0, 0, 16, 0), "unref")],
        {"allocs_total": 1, "refs_total": 1, "unrefs_total": 1}, [(0, 0, 16, 100, 1, 0)])
    run("resize", [(a0, "alloc"), (("a", A, 0, 0, 16, 70), "resize")], {"allocs_total": 1, "resized_total": 1},
        [(0, 0, 16, 70, 2, 0)])
    run("another type is another buffer", [(a0, "alloc"), (("a", A, 0, 1, 16, 100), "alloc")], {"allocs_total": 2},
        [(0, 0, 16, 100, 1, 0), (0, 1, 16, 100, 1, 0)])
    run("ambiguous: the latest", [(a0, "alloc"), (("a", A, 0, 1, 16, 50), "alloc"), (("a", F, 0, 0, 16, 0), "free")],
        {"allocs_total": 2, "frees_total": 1, "ambiguous_frees": 1}, [(0, 0, 16, 100, 1, 0)])
    run("a circular buffer is not meant by FREE", [(("a", 8, 0, 0, 16, 5), "alloc"), (("a", F, 0, 0, 16, 0),
                                                                                     "unknown_free")],
        {"allocs_total": 1, "unknown_frees": 1}, [(0, 5, 16, 5, 1, 0)])
    run("circular buffers and kernels", [(("a", 8, 0, 0, 16, 5), "alloc"), (("a", 9, 0, 0, 16, 5), "free"),
                                         (("a", 9, 0, 0, 16, 5), "unknown_free"), (("a", 10, 0, 2, 7, 9), "alloc"),
                                         (("a", 11, 0, 0, 7, 9), "free"), (("a", 11, 0, 0, 7, 9), "unknown_free")],
        {"allocs_total": 2, "frees_total": 2, "unknown_frees": 2}, [])
    run("two owners, one place", [(a0, "alloc"), (("b",) + a0[1:], "alloc"), (("b", F, 0, 0, 16, 0), "free")],
        {"allocs_total": 2, "frees_total": 1}, [(0, 0, 16, 100, 1, 0)])
    run("foreign, same user", [(a0, "alloc"), (("b", F, 0, 0, 16, 0), "foreign_free")],
        {"allocs_total": 1, "frees_total": 1, "foreign_frees": 1}, [])
    run("foreign, one reference", [(a0, "alloc"), (a0, "ref"), (("b", F, 0, 0, 16, 0), "foreign_free")],
        {"allocs_total": 1, "refs_total": 1, "unrefs_total": 1, "foreign_frees": 1}, [(0, 0, 16, 100, 1, 0)])
    run("foreign, several", [(a0, "alloc"), (("b",) + a0[1:], "alloc"), (("c", F, 0, 0, 16, 0), "foreign_refused")],
        {"allocs_total": 2, "foreign_frees": 1}, [(0, 0, 16, 100, 1, 0), (0, 0, 16, 100, 1, 1)])
    run("foreign, other user", [(a0, "alloc"), (("x", F, 0, 0, 16, 0), "foreign_refused")],
        {"allocs_total": 1, "foreign_frees": 1}, [(0, 0, 16, 100, 1, 0)])
    run("foreign, of the ended", [(a0, "alloc"), (("a", "exit"), None), (("b", F, 0, 0, 16, 0), "foreign_free")],
        {"allocs_total": 1, "frees_total": 1, "foreign_frees": 1}, [])
    later = (("d", "comes"), None)
    run("not of who had ended before", [(a0, "alloc"), (("a", "exit"), None), later,
                                        (("d", F, 0, 0, 16, 0), "unknown_free")],
        {"allocs_total": 1, "unknown_frees": 1}, [(0, 0, 16, 100, 1, 0)])
    run("no double free of who had ended before", [(a0, "alloc"), (("a", F, 0, 0, 16, 0), "free"),
                                                   (("a", "exit"), None), later,
                                                   (("d", F, 0, 0, 16, 0), "unknown_free")],
        {"allocs_total": 1, "frees_total": 1, "unknown_frees": 1}, [])
    run("double before foreign", [(a0, "alloc"), (("a", F, 0, 0, 16, 0), "free"), (("b",) + a0[1:], "alloc"),
                                  (("a", F, 0, 0, 16, 0), "double_free")],
        {"allocs_total": 2, "frees_total": 1, "double_frees": 1}, [(0, 0, 16, 100, 1, 1)])
    run("double by the family", [(a0, "alloc"), (("a", F, 0, 0, 16, 0), "free"), (("b", F, 0, 0, 16, 0),
                                                                                "double_free")],
        {"allocs_total": 1, "frees_total": 1, "double_frees": 1}, [])
    run("another user's past is unknown", [(a0, "alloc"), (("a", F, 0, 0, 16, 0), "free"),
                                           (("x", F, 0, 0, 16, 0), "unknown_free")],
        {"allocs_total": 1, "frees_total": 1, "unknown_frees": 1}, [])
    b3 = ("a", A, 3, 0, 16, 100)
    run("rerouted", [(b3, "alloc"), (("a", F, 0, 0, 16, 0), "free")],
        {"allocs_total": 1, "frees_total": 1, "rerouted_frees": 1}, [], dialect=72)
    run("rerouted, 112", [(b3, "alloc"), (("a", F, 0, 0, 16, 0), "free")],
        {"allocs_total": 1, "frees_total": 1, "rerouted_frees": 1}, [], dialect=112)
    run("not rerouted from 144", [(b3, "alloc"), (("a", F, 0, 0, 16, 0), "unknown_free")],
        {"allocs_total": 1, "unknown_frees": 1}, [(3, 0, 16, 100, 1, 0)])
    run("not rerouted when there are two", [(b3, "alloc"), (("a", A, 4, 0, 16, 1), "alloc"),
                                            (("a", F, 0, 0, 16, 0), "unknown_free")],
        {"allocs_total": 2, "unknown_frees": 1}, [(3, 0, 16, 100, 1, 0), (4, 0, 16, 1, 1, 0)], dialect=72)
    run("not rerouted from device 1", [(b3, "alloc"), (("a", F, 1, 0, 16, 0), "unknown_free")],
        {"allocs_total": 1, "unknown_frees": 1}, [(3, 0, 16, 100, 1, 0)], dialect=72)
    run("rerouted before double", [(a0, "alloc"), (("a", F, 0, 0, 16, 0), "free"), (b3, "alloc"),
                                   (("a", F, 0, 0, 16, 0), "free"), (("a", F, 0, 0, 16, 0), "double_free")],
        {"allocs_total": 2, "frees_total": 2, "rerouted_frees": 1, "double_frees": 1}, [], dialect=72)
    run("refused", [(("a", A, -1, 0, 16, 1), "refused"), (("a", A, 1024, 0, 16, 1), "refused"),
                    (("a", A, 0, 0, 16, 0), "refused"), (("a", A, 0, 0, 16, (1 << 56) + 1), "refused"),
                    (("a", A, 0, 5, 16, 1), "refused"), (("a", 10, 0, 3, 16, 1), "refused"),
                    (("a", 4, 0, 0, 0, 0), "refused"), (("a", 7, 0, 0, 0, 0), "refused"),
                    (("a", A, 1023, 4, 16, 1 << 56), "alloc")],
        {"refused_events": 8, "allocs_total": 1}, [(1023, 4, 16, 1 << 56, 1, 0)])
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--captures", metavar="DIR")
    args = parser.parse_args()
    bad = 0
    if args.self_test:
        bad += self_test()
    if args.captures:
        bad += check_captures(args.captures)
    print("model: %s" % ("%d failures" % bad if bad else "ok"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
