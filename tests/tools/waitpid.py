#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""waitpid.py PID SECONDS: waits for any process to end, by its pidfd. 0 = it is gone, 1 = still there after SECONDS."""
import os
import select
import sys

try:
    fd = os.pidfd_open(int(sys.argv[1]))
except ProcessLookupError:
    sys.exit(0)
sys.exit(0 if select.select([fd], [], [], float(sys.argv[2]))[0] else 1)
