#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""readers.py FILE WHOLE: python's ways of reading FILE give parts of the content that is in the file WHOLE."""
import os
import random
import sys

path, whole = sys.argv[1], open(sys.argv[2], "rb").read()
bad = 0


def eq(what, want, got):
    global bad
    if want != got:
        bad += 1
        print("FAIL %s: %s\n  expected %r\n  got      %r" % (path, what, want[:200], got[:200]))


with open(path, "rb") as f:
    eq("read()", whole, f.read())
    eq("read() at the end", b"", f.read())
    f.seek(0)
    eq("seek(0), read()", whole, f.read())
    f.seek(5)
    eq("seek(5), read(10)", whole[5:15], f.read(10))
with open(path, encoding="utf-8") as f:
    eq("readlines()", whole.decode().splitlines(True), f.readlines())
with open(path, encoding="utf-8") as f:
    eq("iteration", whole.decode().splitlines(True), list(f))
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
if size:
    eq("fstat().st_size", [len(whole)], [size])
    with open(path, "rb") as f:
        f.seek(-10, 2)
        eq("seek from the end", whole[-10:], f.read())
eq("one byte", whole[:1], os.read(fd, 1))
eq("never more than asked", whole[1:4], os.read(fd, 3))
eq("beyond the end", b"", os.pread(fd, 100, len(whole)))
eq("far beyond the end", b"", os.pread(fd, 100, 1 << 40))
rng = random.Random(1)
at = 0
got = b""
while at < len(whole):  # forward in odd pieces
    part = os.pread(fd, rng.randrange(1, 999), at)
    if not part:
        break
    got += part
    at += len(part)
eq("pieces", whole, got)
for _ in range(50):  # back and forth; the snapshot is one, except that offset 0 takes a new one
    at = rng.randrange(1, len(whole))
    n = rng.randrange(1, 200)
    eq("pread(%d, %d)" % (n, at), whole[at:at + n], os.pread(fd, n, at))
buffers = [bytearray(3), bytearray(4)]
os.preadv(fd, buffers, 2)
eq("preadv", whole[2:9], bytes(buffers[0] + buffers[1]))
os.close(fd)
r, w = os.pipe()
fd = os.open(path, os.O_RDONLY)
try:
    n = os.splice(fd, w, 20) if hasattr(os, "splice") else os.sendfile(w, fd, None, 20)
    eq("splice or sendfile", whole[:n], os.read(r, n))
except OSError as e:
    print("FAIL %s: splice or sendfile: %s" % (path, e))
    bad += 1
os.close(fd)
sys.exit(1 if bad else 0)
