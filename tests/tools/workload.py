#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""workload.py MOUNT OUTPUT: the last block of totals that ttalloc-workload printed equals what the mount says.

The pids that it announced must be the only processes, and each buffer must belong to one of them.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import Mount, Report  # noqa: E402


def main():
    mount = Mount(sys.argv[1])
    transport = sys.argv[3] if len(sys.argv) > 3 else "ring"
    with open(sys.argv[2], encoding="utf-8") as f:
        lines = f.read().splitlines()
    r = Report()
    pids = {int(line[4:]) for line in lines if re.fullmatch(r"pid \d+", line)}
    ends = [i for i, line in enumerate(lines) if line.startswith("state ")]
    if not r.ok("the workload printed its totals", ends, lines):
        return r.end("workload")
    start = max([i + 1 for i, line in enumerate(lines[:ends[-1]]) if not line.startswith(("device ", "total ",
                                                                                        "counters ", "events "))],
                default=0)
    state = lines[ends[-1]][6:]
    devices = set()
    reported = None
    for line in lines[start:ends[-1]]:
        w = line.split()
        if w[0] == "device":
            devices.add(int(w[1]))
            want = dict(zip(w[3::2], w[4::2]))
            got = mount.device(int(w[1]))[w[2]]
            got = {"count": got[0], "bytes": got[1], "peak": got[2], "allocs": got[5], "frees": got[6]}
            for key, value in want.items():
                if value != "-":
                    r.eq("%s %s %s %s" % (w[0], w[1], w[2], key), int(value), got[key])
        elif w[0] == "total":
            stats = mount.stats()
            r.eq("total", (w[2], w[4]), (stats["live_buffers"], stats["live_bytes"]))
        elif w[0] == "counters":
            stats = mount.stats()
            names = {"allocs": "allocs_total", "frees": "frees_total", "refs": "refs_total"}
            for key, value in zip(w[1::2], w[2::2]):
                r.eq("counter " + key, value, stats[names.get(key, key)])
        elif w[0] == "events":
            reported = dict(zip(w[1::2], w[2::2]))
    r.ok("the block has events", reported)
    if reported:
        r.eq("nothing queued, dropped or uncertain", ("0", "0", "0"),
             tuple(reported[k] for k in ("queued", "dropped", "uncertain")))
    r.eq("devices", devices, set(mount.devices()))
    if transport == "ring":  # messages tell neither capacities nor tags nor sites
        for device in devices:
            rows = mount.device(device)
            r.eq("device%d: capacities" % device, (str(12 << 30), str(80 * 1499136)), (rows["dram"][3], rows["l1"][3]))
        tags = re.compile(r"firmware|embedding|trace|scratch|"
                          r"program_cache|run|token|shared|common|both|"  # of scenarios
                          r"layers\.\d+(/(program|matmul|norm|qkv|attention|mlp|w[qkvo]|"
                          r"gate|up|down|kv_cache/(keys|values)))?")
        r.eq("buffers without their tag", [], [row for row in mount.allocs() if not tags.fullmatch(row[10])])
        for site in {row[9] for row in mount.allocs()}:
            text = mount.text("stacks", site)
            depth = re.search(r"^stack frame-pointer (\d+)$", text, re.M)
            r.ok("a stack up to main()", depth and 6 <= int(depth.group(1)) <= 19, text)
    table = mount.processes()
    r.eq("processes", pids, set(table))
    r.eq("their state", {"live" if state == "holding" else "dead"}, {row["state"] for p in table.values() for row in p})
    r.eq("their transport", {transport}, {row["transport"] for p in table.values() for row in p})
    r.ok("buffers belong to them", {row[5] for row in mount.allocs()} <= pids)
    r.eq("leaks/ are the suspects", mount.leak_names(), sorted(os.listdir(mount.join("leaks"))))
    r.eq("suspects", 0 if state == "holding" else mount.stat("live_buffers"), mount.stat("suspects"))
    for key in ("events_lost", "refused_events", "malformed_senders", "foreign_frees"):
        r.eq(key, 0, mount.stat(key))
    ambiguous = len(pids) * len(devices) if "expect ambiguous_frees 1" in lines else 0
    r.eq("ambiguous_frees", ambiguous, mount.stat("ambiguous_frees"))
    return r.end("workload, %d processes, %d devices, %s" % (len(pids), len(devices), state))


if __name__ == "__main__":
    sys.exit(main())
