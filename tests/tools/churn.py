#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""churn.py SOCKET DEVICE: allocates and frees on one device until SIGTERM; prints how many events it sent.

Leaves nothing behind: the last round frees what it allocated.
"""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import ttsend  # noqa: E402

stop = False


def on_term(_signal, _frame):
    global stop
    stop = True


signal.signal(signal.SIGTERM, on_term)
s = ttsend.Sender(sys.argv[1], 72)
device = int(sys.argv[2])
sent = 0
while not stop:
    s.begin()
    for i in range(64):
        s.alloc(device + i % 2, "l1", 0x1000 * (sent // 128 % 5000 + i), 4096)
    for i in range(64):
        s.free(device + i % 2, 0x1000 * (sent // 128 % 5000 + i))
    s.flush()
    sent += 128
print(sent)
