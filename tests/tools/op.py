#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""op.py OPERATION ARGUMENT...: one system call, its outcome as one word on standard output.

Prints the name of the errno ("EPERM"), or what the call returned ("OK" where that means nothing). `write PATH TEXT`
(with backslash escapes in TEXT) opens for writing, does a single write() and prints the number of bytes, then, as a
caller of write() does, offers the rest and prints the outcome of that too: "5 ENODEV".

op.py -: the same for many: each line of standard input is an operation and its arguments, separated by tabs; prints
for each `OUTCOME OPERATION ARGUMENT...`, separated by blanks.
"""
import errno
import os
import socket
import stat
import sys


def write_all(path, data, flags=os.O_WRONLY):
    words = []
    fd = os.open(path, flags)
    try:
        while data:
            try:
                n = os.write(fd, data)
            except OSError as e:
                words.append(errno.errorcode[e.errno])
                break
            words.append(str(n))
            data = data[n:]
    finally:
        os.close(fd)
    return " ".join(words)


def text(argument):
    return argument.encode().decode("unicode_escape").encode("latin-1")


def truncate_open(path):
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def ftruncate(path):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, 3)
    finally:
        os.close(fd)


def bind(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        s.bind(path)
    finally:
        s.close()


def read_nonblock(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 65536).decode()
    finally:
        os.close(fd)


def xattr_get(path):
    return os.getxattr(path, "user.x").decode()


OPERATIONS = {
    "stat": lambda p: os.stat(p) and None,
    "open": lambda p: os.close(os.open(p, os.O_RDONLY)),
    "openw": lambda p: os.close(os.open(p, os.O_WRONLY)),
    "create": lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o644)),
    "mkdir": lambda p: os.mkdir(p),
    "rmdir": lambda p: os.rmdir(p),
    "unlink": lambda p: os.unlink(p),
    "rename": lambda p, q: os.rename(p, q),
    "link": lambda p, q: os.link(p, q),
    "symlink": lambda p, q: os.symlink(p, q),
    "mkfifo": lambda p: os.mkfifo(p),
    "mknod": lambda p: os.mknod(p, stat.S_IFREG | 0o644),
    "bind": bind,
    "chmod": lambda p, m: os.chmod(p, int(m, 8)),
    "chown": lambda p, u, g: os.chown(p, int(u), int(g)),
    "setxattr": lambda p: os.setxattr(p, "user.x", b"1"),
    "getxattr": xattr_get,
    "removexattr": lambda p: os.removexattr(p, "user.x"),
    "truncate": lambda p, n: os.truncate(p, int(n)),
    "ftruncate": ftruncate,
    "otrunc": truncate_open,
    "readlink": lambda p: os.readlink(p),
    "listdir": lambda p: os.listdir(p) and None,
    "nonblock": read_nonblock,
    "write": lambda p, t: write_all(p, text(t)),
    "fill": lambda p, n: write_all(p, b"#" * int(n)),
}


def outcome(operation, *arguments):
    try:
        result = OPERATIONS[operation](*arguments)
    except OSError as e:
        result = errno.errorcode[e.errno]
    return "OK" if result is None else str(result)


def main():
    if sys.argv[1] != "-":
        print(outcome(*sys.argv[1:]))
        return
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        print(outcome(*words), *words)


if __name__ == "__main__":
    main()
