#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""groups.py REPORT: what a JSON report of `ttalloc run` or `ttalloc leaks` says, one line per call site:

REASONS COUNT BYTES TYPE DEVICES TAGS FUNCTIONS KNOWN

The report's groups are of one tag each; here they are put together. FUNCTIONS are the two innermost behind those that
all allocations of the workload have. More than four tags are `...`.
"""
import json
import sys

COMMON = ("model_make", "make_tagged", "make_held")


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        report = json.load(f)
    sites = {}
    for g in report["groups"]:
        sites.setdefault((g["site"] or g["key"], g["type"]), []).append(g)
    for groups in sorted(sites.values(), key=lambda groups: -sum(g["bytes"] for g in groups)):
        devices = min(g["device_min"] for g in groups), max(g["device_max"] for g in groups)
        tags = sorted(g["tag"] or "-" for g in groups)
        known = {g["known"]["name"] if g["known"] else "-" for g in groups}
        functions = [frame["function"].split("@")[0].split(".")[0] for frame in groups[0]["stack"]]
        print("+".join(sorted({r["value"] for g in groups for r in g["reasons"]})), sum(g["count"] for g in groups),
              sum(g["bytes"] for g in groups), groups[0]["type"],
              devices[0] if devices[0] == devices[1] else "%d-%d" % devices,
              "..." if len(tags) > 4 else "+".join(tags),
              ",".join([name for name in functions if name not in COMMON][:2]), "+".join(sorted(known)))


if __name__ == "__main__":
    main()
