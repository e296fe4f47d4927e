# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the files of a mount, and comparing them with a model; used by the Python tests.

The parsers are strict: a line that is not as docs/filesystem.md says is an error, not something to skip.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from ttsend import TYPES  # noqa: E402

ALLOCS_HEADER = "# device type address size refs pid uid time seq site tag comm"
SUSPECTS_HEADER = "# reason device type address size refs pid uid state age_s time seq site tag comm"
SUMMARY_HEADER = "# type count bytes peak capacity used_pct allocs frees"
PROCESSES_HEADER = ("# pid uid state transport events lost live bytes dram l1 system_memory l1_small trace cb kernel "
                    "comm")
MAP_HEADER = "# start end bytes state type seq"

ADDRESS = r"0x[0-9a-f]{12,16}"
TIME = r"\d+\.\d{6}"
ALLOCS_LINE = re.compile(r"(\d+) (%s) (%s) (\d+) (\d+) (\d+) (\d+) (%s) (\d+) (\S+) (\S+) (\S+)"
                         % ("|".join(TYPES), ADDRESS, TIME))
SUSPECTS_LINE = re.compile(r"(\S+) (\d+) (%s) (%s) (\d+) (\d+) (\d+) (\d+) (live|dead) (\d+\.\d+) (%s) (\d+) "
                           r"(\S+) (\S+) (\S+)" % ("|".join(TYPES), ADDRESS, TIME))


def seconds(time_ns):
    """As the mount writes a time."""
    return "%d.%06d" % (time_ns // 10 ** 9, time_ns // 1000 % 10 ** 6)


class Report:
    """Collects what is wrong; the test ends with report.end()."""

    def __init__(self):
        self.failures = 0
        self.checks = 0

    def eq(self, what, want, got):
        self.checks += 1
        if want != got:
            self.fail("%s\n  expected %r\n  got      %r" % (what, want, got))
            return False
        return True

    def ok(self, what, condition, got=""):
        self.checks += 1
        if not condition:
            self.fail("%s%s" % (what, "\n  got      %r" % (got,) if got != "" else ""))
        return bool(condition)

    def fail(self, text):
        self.failures += 1
        if self.failures <= 40:
            print("FAIL " + text, flush=True)

    def end(self, title):
        print("%s: %d checks, %d failures" % (title, self.checks, self.failures), flush=True)
        return 1 if self.failures else 0


class Mount:
    def __init__(self, path):
        self.path = path

    def join(self, *names):
        return os.path.join(self.path, *names)

    def text(self, *names):
        """One open, read to the end, close."""
        fd = os.open(self.join(*names), os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while True:
                part = os.read(fd, 1 << 20)
                if not part:
                    return b"".join(parts).decode()
                parts.append(part)
        finally:
            os.close(fd)

    def lines(self, *names):
        text = self.text(*names)
        if text and not text.endswith("\n"):
            raise ValueError("%s: the last line has no newline" % "/".join(names))
        return text.split("\n")[:-1]

    def keyed(self, *names):
        """`key value` lines as a dict of strings; indented lines (lists) are left out, and so is everything behind
        an empty line (a record's second block)."""
        found = {}
        for line in self.lines(*names):
            if line.startswith(" "):
                continue
            if not line:
                break
            key, _, value = line.partition(" ")
            if key in found:
                raise ValueError("%s: key %s twice" % ("/".join(names), key))
            found[key] = value
        return found

    def table(self, header, *names):
        lines = self.lines(*names)
        if not lines or lines[0] != header:
            raise ValueError("%s: header\n  expected %r\n  got      %r" % ("/".join(names), header, lines[:1]))
        return lines[1:]

    def barrier(self):
        """Everything that was sent before is booked when this returns."""
        os.close(os.open(self.join("version"), os.O_RDONLY))

    def stats(self):
        return self.keyed("stats")

    def stat(self, key):
        return int(self.stats()[key])

    def allocs(self, *names):
        """Rows as (device, type, address, size, refs, pid, uid, time, seq, site, tag, comm)."""
        rows = []
        match = ALLOCS_LINE.fullmatch
        for line in self.table(ALLOCS_HEADER, *(names or ("allocs",))):
            m = match(line)
            if m is None:
                raise ValueError("%s: not a row: %r" % ("/".join(names or ("allocs",)), line))
            d, t, a, s, r, p, u, when, seq, site, tag, comm = m.groups()
            rows.append((int(d), t, int(a, 16), int(s), int(r), int(p), int(u), when, int(seq), site, tag, comm))
        return rows

    def suspects(self):
        """Rows as (reason, device, type, address, size, refs, pid, uid, state, age, time, seq, site, tag, comm)."""
        rows = []
        for line in self.table(SUSPECTS_HEADER, "suspects"):
            m = SUSPECTS_LINE.fullmatch(line)
            if m is None:
                raise ValueError("suspects: not a row: %r" % line)
            e, d, t, a, s, r, p, u, state, age, when, seq, site, tag, comm = m.groups()
            rows.append((e, int(d), t, int(a, 16), int(s), int(r), int(p), int(u), state, float(age), when, int(seq),
                         site, tag, comm))
        return rows

    def leak_names(self):
        """What `leaks/` must list, from `suspects`."""
        return sorted("pid%d-device%d-%s-0x%012x-%d" % (r[6], r[1], r[2], r[3], r[11]) for r in self.suspects())

    def device(self, number):
        """{type or "total": (count, bytes, peak, capacity, used_pct, allocs, frees)}; capacity as text."""
        rows = {}
        lines = self.table(SUMMARY_HEADER, "device%d" % number, "summary")
        for line, name in zip(lines, TYPES + ("total",)):
            w = line.split(" ")
            if len(w) != 8 or w[0] != name:
                raise ValueError("device%d/summary: not the row of %s: %r" % (number, name, line))
            rows[name] = (int(w[1]), int(w[2]), int(w[3]), w[4], w[5], int(w[6]), int(w[7]))
        if len(lines) != 8:
            raise ValueError("device%d/summary: %d rows, not 8" % (number, len(lines)))
        return rows

    def devices(self):
        return sorted(int(n[6:]) for n in os.listdir(self.path) if re.fullmatch(r"device\d+", n))

    def processes(self):
        """{pid: [rows as dicts]}"""
        names = PROCESSES_HEADER[2:].split()
        found = {}
        for line in self.table(PROCESSES_HEADER, "processes"):
            w = line.split(" ")
            if len(w) != len(names):
                raise ValueError("processes: %d fields: %r" % (len(w), line))
            row = dict(zip(names, w))
            found.setdefault(int(row["pid"]), []).append(row)
        return found


def compare(report, mount, model, title, exact_peaks=True, shared=()):
    """Everything the mount says against the model.

    `shared`: devices on which concurrent senders mixed. There the highest value depends on the order, so peaks are
    checked against bounds: not below what one process or the end reached, not above the sum of what all reached.
    """
    eq, ok = report.eq, report.ok
    stats = mount.stats()
    for name, value in model.counters.items():
        eq("%s: stats %s" % (title, name), value, int(stats[name]))
    count, size = model.total()
    eq("%s: stats live_buffers" % title, count, int(stats["live_buffers"]))
    eq("%s: stats live_bytes" % title, size, int(stats["live_bytes"]))
    if exact_peaks and not shared:
        eq("%s: stats peak_bytes" % title, model.sum.peak, int(stats["peak_bytes"]))
    eq("%s: stats suspects" % title, len(model.suspects()), int(stats["suspects"]))

    live = model.all_live()
    rows = mount.allocs()
    eq("%s: allocs: rows" % title, len(live), len(rows))
    got = sorted(r[:7] for r in rows)
    want = sorted(b.row() for b in live)
    if got != want:
        only_want = sorted(set(want) - set(got))
        only_got = sorted(set(got) - set(want))
        report.fail("%s: allocs\n  missing (%d) %r\n  too many (%d) %r" % (title, len(only_want), only_want[:5],
                                                                         len(only_got), only_got[:5]))
    eq("%s: allocs: seq is unique" % title, len(rows), len({r[8] for r in rows}))

    eq("%s: suspects" % title, sorted(b.suspect_row() for b in model.suspects()),
       sorted(r[:9] for r in mount.suspects()))

    have = mount.devices()
    for number, device in sorted(model.devices.items()):
        if not device.total.allocs:
            continue
        if not ok("%s: device%d is there" % (title, number), number in have):
            continue
        got = mount.device(number)
        for kind, t in list(zip(TYPES, device.types)) + [("total", device.total)]:
            g = got[kind]
            where = "%s: device%d/summary %s" % (title, number, kind)
            eq(where + " count, bytes, allocs, frees", (t.count, t.bytes, t.allocs, t.frees),
               (g[0], g[1], g[5], g[6]))
            if exact_peaks and number not in shared:
                eq(where + " peak", t.peak, g[2])
            else:
                ok("%s peak: %d <= %d" % (where, t.bytes, g[2]), t.bytes <= g[2])
        held = sorted(b.row() for b in live if b.device == number)
        eq("%s: device%d/allocs" % (title, number), held,
           sorted(r[:7] for r in mount.allocs("device%d" % number, "allocs")))
        for kind in TYPES:
            eq("%s: ls device%d/%s" % (title, number, kind),
               sorted({"0x%012x" % r[2] for r in held if r[1] == kind}),
               sorted(os.listdir(mount.join("device%d" % number, kind))))

    table = mount.processes()
    pids = {}
    for p in model.processes:
        pids.setdefault(p.pid, []).append(p)
    for pid, people in sorted(pids.items()):
        if len(people) > 1:
            continue  # a process id that came twice in one test: only the sums above can tell them apart
        p = people[0]
        where = "%s: processes %d" % (title, pid)
        mine = table.get(pid, [])
        if eq(where + " rows", 1, len(mine)):
            row = mine[0]
            eq(where, {"uid": str(p.uid), "state": "dead" if p.ended else "live", "events": str(p.events),
                       "live": str(p.total.count), "bytes": str(p.total.bytes),
                       **{k: str(t.bytes) for k, t in zip(TYPES, p.types)}},
               {k: row[k] for k in ("uid", "state", "events", "live", "bytes") + TYPES})
        status = mount.keyed("pids", str(pid), "status")
        where = "%s: pids/%d/status" % (title, pid)
        want = {"pid": str(pid), "uid": str(p.uid), "state": "dead" if p.ended else "live", "events": str(p.events),
                **{k: str(n) for k, n in p.faults.items()}}
        for kind, t in zip(TYPES, p.types):
            want.update({kind + "_count": str(t.count), kind + "_bytes": str(t.bytes), kind + "_peak": str(t.peak)})
        eq(where, want, {k: status.get(k) for k in want})
        eq("%s: pids/%d/allocs" % (title, pid), sorted(b.row() for b in live if b.owner is p),
           sorted(r[:7] for r in mount.allocs("pids", str(pid), "allocs")))
