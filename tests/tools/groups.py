#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""groups.py REPORT: what a JSON report of `ttalloc run` or `ttalloc leaks` says, one line per call site:

REASONS COUNT BYTES TYPE DEVICES TAGS FUNCTIONS KNOWN

FUNCTIONS are the two innermost behind those that all allocations of the workload have. More than four tags are `...`.
"""
import json
import sys

COMMON = ("model_make", "make_tagged", "make_held")


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        report = json.load(f)
    for g in report["groups"]:
        functions = [frame["function"].split("@")[0] for frame in g["stack"]]
        print("+".join(sorted(r["value"] for r in g["reasons"])), g["count"], g["bytes"], g["type"],
              g["device_min"] if g["device_min"] == g["device_max"] else "%d-%d" % (g["device_min"], g["device_max"]),
              "..." if g["more_tags"] else "+".join(sorted(t["value"] for t in g["tags"])) or "-",
              ",".join([name for name in functions if name not in COMMON][:2]),
              g["known"]["name"] if g["known"] else "-")


if __name__ == "__main__":
    main()
