#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""inpty.py [--keys TEXT] COMMAND...: runs a command on a terminal of 60 lines and 200 columns; prints what it drew.

Control sequences and carriage returns are taken out. TEXT is typed at once (a pager reads it when it wants a key).
With --until PATTERN, --say FILE LINE and --then PATTERN: reads until PATTERN was drawn, writes LINE to FILE (a fifo
of lib.sh's sender), reads until the second pattern was drawn, and types an interrupt. Nothing here waits for time to
pass; 60 s without an end is a failure.
"""
import argparse
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78HcM]|\x0f|\x0e|\r|\x07")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", default="")
    parser.add_argument("--until")
    parser.add_argument("--say", nargs=2, metavar=("FILE", "LINE"))
    parser.add_argument("--then")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        os.environ["TERM"] = "vt100"  # knows no "repeat this character", so text stays searchable
        os.environ.pop("LESS", None)
        os.execvp(args.command[0], args.command)
    if args.keys:
        os.write(fd, args.keys.encode())
    drawn = b""
    wanted = [p.encode() for p in (args.until, args.then) if p]
    while True:
        if not select.select([fd], [], [], 60)[0]:
            os.kill(pid, 9)
            print("inpty: no end after 60 s, drawn so far:\n" + ESCAPES.sub(b"", drawn).decode(errors="replace"))
            return 1
        try:
            part = os.read(fd, 65536)
        except OSError:  # EIO: the terminal's other side is closed
            break
        if not part:
            break
        drawn += part
        if wanted and re.search(wanted[0], ESCAPES.sub(b"", drawn)):
            wanted.pop(0)
            if wanted and args.say:
                drawn = b""
                with open(args.say[0], "w", encoding="utf-8") as f:
                    f.write(args.say[1] + "\n")
            elif not wanted:
                os.write(fd, b"\x03")
    _, status = os.waitpid(pid, 0)
    sys.stdout.write(ESCAPES.sub(b"", drawn).decode(errors="replace"))
    if wanted:
        print("inpty: never drawn: %s" % wanted[0].decode())
        return 1
    if args.until:
        return 0
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
