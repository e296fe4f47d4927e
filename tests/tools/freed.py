#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""freed.py MOUNT SOCKET: what the record of a buffer carries, and what becomes of it when the buffer is freed."""
import errno
import os
import stat
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tools.mount import Mount, Report, seconds  # noqa: E402
import ttsend  # noqa: E402

ADDRESS = 0x40000000
NAME = "0x000040000000"


def error_of(call, *args):
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "OK"


def main():
    mount, path = Mount(sys.argv[1]), sys.argv[2]
    r = Report()
    s = ttsend.Sender(path, 144)
    with open("/proc/self/comm", encoding="utf-8") as f:
        comm = f.read().strip()
    dram = mount.join("device0", "dram")
    record = os.path.join(dram, NAME)

    # ---- attributes carry the allocation ----
    for size, blocks in ((1, 1), (511, 1), (512, 1), (513, 2), (12288, 24), (1 << 40, 1 << 31)):
        when = s.alloc(0, "dram", ADDRESS, size)
        st = os.stat(record)
        where = "%d bytes: " % size
        r.eq(where + "st_blocks", blocks, st.st_blocks)
        r.eq(where + "times", (when, when, when), (st.st_mtime_ns, st.st_atime_ns, st.st_ctime_ns))
        r.eq(where + "owner", (os.getuid(), os.getgid()), (st.st_uid, st.st_gid))
        r.eq(where + "mode, links", (stat.S_IFREG | 0o444, 1), (st.st_mode, st.st_nlink))
        text = mount.text("device0", "dram", NAME)
        r.eq(where + "st_size", len(text), st.st_size)
        keys = mount.keyed("device0", "dram", NAME)
        r.eq(where + "record", {"address": NAME, "device": "0", "type": "dram", "size": str(size), "refs": "1",
                                "pid": str(os.getpid()), "uid": str(os.getuid()), "comm": comm,
                                "allocated": seconds(when)},
             {k: keys.get(k) for k in ("address", "device", "type", "size", "refs", "pid", "uid", "comm",
                                       "allocated")})
        s.free(0, ADDRESS)
        r.eq(where + "gone", "ENOENT", error_of(os.stat, record))

    # ---- each kind of access is the first one after a free ----
    accesses = {
        "stat": lambda: error_of(os.stat, record),
        "lstat": lambda: error_of(os.lstat, record),
        "open": lambda: error_of(os.open, record, os.O_RDONLY),
        "access": lambda: "OK" if os.access(record, os.F_OK) else "ENOENT",
        "ls": lambda: "OK" if NAME in os.listdir(dram) else "ENOENT",
        "open by another spelling": lambda: error_of(os.open, os.path.join(dram, "0x40000000"), os.O_RDONLY),
        "stat relative to an open directory": lambda: error_of(lambda: os.stat(NAME, dir_fd=dir_fd)),
    }
    dir_fd = os.open(dram, os.O_RDONLY | os.O_DIRECTORY)
    for name, access in accesses.items():
        for look_before in (False, True):
            s.alloc(0, "dram", ADDRESS, 4096)
            if look_before:  # so that the kernel knows name and attributes
                os.stat(record)
                mount.text("device0", "dram", NAME)
                os.listdir(dram)
            s.free(0, ADDRESS)
            r.eq("freed, then %s" % name, "ENOENT", access())

    # ---- an address that is used again shows the new record ----
    inodes = set()
    for i in range(50):
        kind = ("dram", "l1", "trace")[i % 3]
        when = s.alloc(i % 2, kind, ADDRESS, 512 * (i + 1))
        where = mount.join("device%d" % (i % 2), kind, NAME)
        st = os.stat(where)
        r.eq("reused %d: st_blocks, mtime" % i, (i + 1, when), (st.st_blocks, st.st_mtime_ns))
        inodes.add(st.st_ino)
        keys = mount.keyed("device%d" % (i % 2), kind, NAME)
        r.eq("reused %d: size, type" % i, (str(512 * (i + 1)), kind), (keys.get("size"), keys.get("type")))
        s.free(i % 2, ADDRESS)
        when = s.alloc(i % 2, kind, ADDRESS, 100 * (i + 1))
        r.eq("replaced %d: size" % i, str(100 * (i + 1)), mount.keyed("device%d" % (i % 2), kind, NAME).get("size"))
        st = os.stat(where)
        r.eq("replaced %d: mtime" % i, when, st.st_mtime_ns)
        inodes.add(st.st_ino)
        s.free(i % 2, ADDRESS)
    r.eq("inode numbers are not used again", 100, len(inodes))

    # ---- a descriptor keeps the snapshot it was opened with ----
    s.alloc(0, "dram", ADDRESS, 4096)
    fd = os.open(record, os.O_RDONLY)
    held = os.fstat(fd).st_size
    first = os.pread(fd, 20, 0)
    s.free(0, ADDRESS)
    rest = os.pread(fd, 65536, 20)
    r.eq("fstat is the length of the snapshot", held, len(first + rest))
    r.eq("the snapshot is whole", ("address " + NAME).encode(), (first + rest).split(b"\n")[0])
    r.eq("nothing behind the end", b"", os.pread(fd, 10, held))
    r.eq("no links are left", 0, os.fstat(fd).st_nlink)
    r.eq("reading it anew", "ESTALE", error_of(os.pread, fd, 10, 0))
    os.close(fd)

    # ---- references and sizes ----
    s.alloc(0, "dram", ADDRESS, 4096)
    s.alloc(0, "dram", ADDRESS, 4096)
    r.eq("two references", "2", mount.keyed("device0", "dram", NAME).get("refs"))
    s.alloc(0, "dram", ADDRESS, 8192)
    keys = mount.keyed("device0", "dram", NAME)
    r.eq("another size", ("3", "8192"), (keys.get("refs"), keys.get("size")))
    r.eq("another size: st_blocks", 16, os.stat(record).st_blocks)
    s.free(0, ADDRESS)
    s.free(0, ADDRESS)
    r.eq("one reference left", "1", mount.keyed("device0", "dram", NAME).get("refs"))
    s.free(0, ADDRESS)
    r.eq("none left", "ENOENT", error_of(os.stat, record))

    # ---- history, as docs/filesystem.md shows it ----
    address, name = 0x50000000, "0x000050000000"
    times = []
    for i in range(2):
        times.append(s.alloc(3, "l1", address, 524288))
        s.free(3, address)
    times.append(s.alloc(3, "l1", address, 12288))
    lines = mount.lines("device3", "l1", name)
    at = lines.index("history allocs=3 frees=2") if "history allocs=3 frees=2" in lines else None
    if r.ok("the record has `history allocs=3 frees=2`", at is not None, lines):
        past = []
        for line in lines[at + 1:]:
            if not line.startswith("  "):
                break
            past.append(line.split())
        me = "pid=%d" % os.getpid()
        r.eq("history lines", [["ALLOC", "size=524288", me, "ref=1"], ["FREE", "size=524288", me, "ref=0"]] * 2
             + [["ALLOC", "size=12288", me, "ref=1"]], [w[1:] for w in past])
        r.eq("times of the ALLOCs", [seconds(t) for t in times], [past[0][0], past[2][0], past[4][0]])

    # ---- the time is the sender's, if it can be true ----
    arrival = time.time_ns()
    for title, when in (("not told", 0), ("in 1970", 1), ("in the future", arrival + 10 ** 15), ("far away", 2 ** 64 - 1)):
        before = time.time_ns()
        s.alloc(3, "dram", address, 512, when)
        mount.barrier()
        after = time.time_ns()
        got = os.stat(mount.join("device3", "dram", name)).st_mtime_ns
        r.ok("a time %s becomes that of the arrival" % title, before <= got <= after, (before, got, after))
        s.free(3, address)

    # ---- several owners of one address: one block each, newest first ----
    mine = s.alloc(5, "dram", address, 512)
    ready_r, ready_w = os.pipe()
    stay_r, stay_w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stay_w)
        ttsend.Sender(path, 72).alloc(5, "dram", address, 5000)
        os.write(ready_w, b".")
        os.read(stay_r, 1)
        os._exit(0)
    os.read(ready_r, 1)
    blocks = mount.text("device5", "dram", name).split("\n\n")
    r.eq("two owners: sizes, newest first", ["size 5000", "size 512"], [b.split("\n")[3] for b in blocks])
    r.eq("two owners: pids", ["pid %d" % child, "pid %d" % os.getpid()], [b.split("\n")[5] for b in blocks])
    r.eq("two owners: the history stands once", 1, sum(b.count("history allocs=2 frees=0") for b in blocks))
    st = os.stat(mount.join("device5", "dram", name))
    r.eq("two owners: st_blocks is the sum", 11, st.st_blocks)
    r.eq("two owners: one name", [name], os.listdir(mount.join("device5", "dram")))
    s.free(5, address)
    r.eq("the own one freed: the other is left", "5000", mount.keyed("device5", "dram", name).get("size"))
    os.close(stay_w)
    os.waitpid(child, 0)
    r.ok("the first was older", mine < st.st_mtime_ns, (mine, st.st_mtime_ns))

    # ---- what stands for something that is gone ----
    s.alloc(6, "dram", address, 512)
    record6 = mount.join("device6", "dram", name)
    dir6 = os.open(mount.join("device6"), os.O_RDONLY | os.O_DIRECTORY)
    s.free(6, address)
    r.eq("the record", "ENOENT", error_of(os.stat, record6))
    with open(mount.join("ctl"), "w", encoding="utf-8") as f:
        f.write("reset device 6\n")
    r.eq("a device that was reset", "ENOENT", error_of(os.stat, mount.join("device6")))
    r.eq("its directory, held open", "ESTALE", error_of(lambda: os.stat("summary", dir_fd=dir6)))
    s.alloc(6, "dram", address, 512)
    r.eq("the device is there again", "OK", error_of(os.stat, mount.join("device6", "summary")))
    r.eq("its old directory is not", "ESTALE", error_of(lambda: os.stat("summary", dir_fd=dir6)))

    # ---- any spelling of an address, nothing else ----
    for spelling in ("0x50000000", "0X50000000", "0x0000000050000000", "0x000050000000"):
        r.eq("spelling " + spelling, "OK", error_of(os.stat, mount.join("device3", "l1", spelling)))
    s.alloc(3, "l1", 0xabcdef, 1)
    r.eq("upper case", "OK", error_of(os.stat, mount.join("device3", "l1", "0x000000ABCDEF")))
    for wrong in ("50000000", "0x5000000g", "0x", "", "0x50000000 ", " 0x50000000", "0x-50000000", "+0x50000000",
                  "0x10000000050000000", "0x5000_0000"):
        if wrong:
            r.eq("not a spelling: %r" % wrong, "ENOENT", error_of(os.stat, mount.join("device3", "l1", wrong)))
    s.alloc(3, "trace", 0xfedcba9876543210, 512)
    r.eq("a wide address", ["0xfedcba9876543210"], os.listdir(mount.join("device3", "trace")))
    r.eq("its record", "0xfedcba9876543210",
         mount.keyed("device3", "trace", "0xfedcba9876543210").get("address"))
    return r.end("records")


if __name__ == "__main__":
    sys.exit(main())
