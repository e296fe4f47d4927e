#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""ours.py: the pids of the processes whose command line contains $TT_DIR, one per line, but its own.

Zombies have no command line."""
import os

wanted = os.environb[b"TT_DIR"]
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    try:
        with open("/proc/%s/cmdline" % pid, "rb") as f:
            if wanted in f.read():
                print(pid)
    except OSError:
        pass
