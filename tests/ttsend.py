#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A sender that speaks the four dialects of the existing clients; library and command.

Written from docs/protocol.md alone: it shares no code with the server, so that the two can disagree.

As a command it obeys lines on standard input and answers each with one line, so a test that has read the answer knows
that the bytes were handed to the kernel ("the report call returned"):

    alloc DEVICE TYPE ADDRESS SIZE [TIME_NS]     free DEVICE ADDRESS
    cb DEVICE ADDRESS SIZE [TIME_NS]             cbfree DEVICE ADDRESS [SIZE]
    kernel DEVICE ID SIZE [CLASS] [TIME_NS]      unload DEVICE ID [SIZE]
                                                 (the three allocating ones answer "ok <the timestamp that was sent>")
    fill DEVICE TYPE FIRST STEP COUNT SIZE       unfill DEVICE FIRST STEP COUNT
    query DEVICE -> dram= l1= ...                info DEVICE -> num_devices= ...
    dump | dumpkernels
    msg TYPE DEVICE SIZE BUFFER_TYPE PID ADDRESS TIME     any message, fields unchecked
    raw HEX                                      bytes as they are
    as PID ...                                   the rest of the line, with PID reported instead of the own one
    child ...                                    the rest of the line in a forked child, over the same connection
                                                 (answers "<pid of the child> <answer>"; the child lives until `reap`)
    reap                                         ends the children
    connect | close | eof                        (eof: shutdown of the sending side)
    closed                                       waits until the server closed the connection
    pid                                          -> the own pid
    quit                                         the end, as is that of standard input
    die                                          SIGKILL to itself; no answer
"""
import argparse
import ctypes
import os
import signal
import socket
import struct
import sys
import time

ALLOC, FREE, QUERY, RESPONSE, DUMP, INFO_QUERY, INFO_RESPONSE = 1, 2, 3, 4, 5, 6, 7
CB_ALLOC, CB_FREE, KERNEL_LOAD, KERNEL_UNLOAD, DUMP_KERNELS = 8, 9, 10, 11, 12

DIALECTS = (72, 112, 128, 144)
TYPES = ("dram", "l1", "system_memory", "l1_small", "trace", "cb", "kernel")
TYPE_NUMBER = {name: i for i, name in enumerate(TYPES)}

HEAD = struct.Struct("<B3xiQB3xiQQ")  # type, device, size, buffer type, pid, address, time
assert HEAD.size == 40

# name -> (format, offset); by dialect, see the table in docs/protocol.md
_TOTALS = {"dram": ("<Q", 40), "l1": ("<Q", 48), "l1_small": ("<Q", 56), "trace": ("<Q", 64)}
_INFO = (("total_dram", "<Q"), ("total_l1", "<Q"), ("arch", "<I"), ("num_dram_channels", "<I"),
         ("dram_size_per_channel", "<I"), ("l1_size_per_core", "<I"), ("is_available", "<I"), ("num_devices", "<I"))


def _info_at(offset):
    fields = {}
    for name, fmt in _INFO:
        fields[name] = (fmt, offset)
        offset += struct.calcsize(fmt)
    return fields


_CB_KERNEL = {"cb": ("<Q", 72), "kernel": ("<Q", 80)}
REPLY_FIELDS = {
    72: dict(_TOTALS),
    112: {**_TOTALS, **_info_at(72)},
    128: {**_TOTALS, **_CB_KERNEL, **_info_at(88)},
    144: {**_TOTALS, **_CB_KERNEL, **_info_at(88)},
}


def message(dialect, kind, device=0, size=0, buffer_type=0, pid=0, address=0, time_ns=0):
    return HEAD.pack(kind & 0xFF, device, size, buffer_type, pid, address, time_ns).ljust(dialect, b"\0")


def split(stream):
    """(dialect, [message heads as tuples]) of a whole stream, by the rule of docs/protocol.md; dialect 0 = empty."""
    if not stream:
        return 0, []
    dialect = 0
    for i in range(40, min(len(stream), 145)):
        if stream[i]:
            dialect = i
            break
    else:
        dialect = len(stream)
    if dialect not in DIALECTS or len(stream) % dialect:
        raise ValueError("not a stream of a known dialect (%d, %d bytes)" % (dialect, len(stream)))
    heads = []
    for at in range(0, len(stream), dialect):
        if any(stream[at + 40:at + dialect]) or not 1 <= stream[at] <= 12:
            raise ValueError("malformed message at %d" % at)
        heads.append(HEAD.unpack_from(stream, at))
    return dialect, heads


def parse_reply(data):
    """A reply as a dict: type, device and the fields that its dialect has."""
    head = HEAD.unpack_from(data)
    fields = {"type": head[0], "device": head[1], "dialect": len(data)}
    for name, (fmt, offset) in REPLY_FIELDS[len(data)].items():
        fields[name] = struct.unpack_from(fmt, data, offset)[0]
    return fields


class Sender:
    """One connection. Every method returns after send() did, as in the existing clients."""

    def __init__(self, path, dialect=72, connect=True):
        self.path = path
        self.dialect = dialect
        self.pid = os.getpid()
        self.sock = None
        self.batch = None
        if connect:
            self.connect()

    def connect(self):
        self.close()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def send(self, data):
        if self.batch is not None:
            self.batch += data
            return
        self.sock.sendall(data)

    def begin(self):
        """Collects messages until flush(), which sends them in as few calls as the socket takes."""
        self.batch = bytearray()

    def flush(self):
        data, self.batch = self.batch, None
        self.sock.sendall(data)

    def message(self, kind, device=0, size=0, buffer_type=0, address=0, time_ns=0, pid=None):
        self.send(message(self.dialect, kind, device, size, buffer_type, self.pid if pid is None else pid, address,
                          time_ns))

    def timed(self, kind, device, size, buffer_type, address, time_ns):
        """Sends and returns the timestamp, now if None."""
        when = time.time_ns() if time_ns is None else time_ns
        self.message(kind, device, size, buffer_type, address, when)
        return when

    def alloc(self, device, kind, address, size, time_ns=None):
        return self.timed(ALLOC, device, size, TYPE_NUMBER[kind], address, time_ns)

    def free(self, device, address):
        self.message(FREE, device, 0, 0, address)

    def cb(self, device, address, size, time_ns=None):
        return self.timed(CB_ALLOC, device, size, 0, address, time_ns)

    def cb_free(self, device, address, size=0):
        self.message(CB_FREE, device, size, 0, address)

    def kernel(self, device, ident, size, kernel_class=0, time_ns=None):
        return self.timed(KERNEL_LOAD, device, size, kernel_class, ident, time_ns)

    def unload(self, device, ident, size=0, kernel_class=0):
        self.message(KERNEL_UNLOAD, device, size, kernel_class, ident)

    def receive(self, size):
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise EOFError("the server closed the connection after %d of %d bytes" % (len(data), size))
            data += more
        return data

    def query(self, device):
        self.message(QUERY, device)
        return parse_reply(self.receive(self.dialect))

    def info(self, device):
        self.message(INFO_QUERY, device)
        return parse_reply(self.receive(self.dialect))


def set_comm(name):
    """The 15 bytes that /proc/<pid>/comm shows."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(15, ctypes.c_char_p(name.encode()), 0, 0, 0)


class Command:
    def __init__(self, args):
        self.sender = Sender(args.socket, args.dialect, connect=not args.no_connect)
        self.children = []

    @staticmethod
    def number(text):
        return int(text, 0)

    def reply(self, fields):
        return " ".join("%s=%d" % (k, v) for k, v in fields.items())

    def obey(self, words):
        s, n = self.sender, self.number
        verb, args = words[0], words[1:]
        if verb == "alloc":
            return "ok %d" % s.alloc(n(args[0]), args[1], n(args[2]), n(args[3]), n(args[4]) if len(args) > 4 else None)
        elif verb == "free":
            s.free(n(args[0]), n(args[1]))
        elif verb == "cb":
            return "ok %d" % s.cb(n(args[0]), n(args[1]), n(args[2]), n(args[3]) if len(args) > 3 else None)
        elif verb == "cbfree":
            s.cb_free(n(args[0]), n(args[1]), n(args[2]) if len(args) > 2 else 0)
        elif verb == "kernel":
            return "ok %d" % s.kernel(n(args[0]), n(args[1]), n(args[2]), n(args[3]) if len(args) > 3 else 0,
                                      n(args[4]) if len(args) > 4 else None)
        elif verb == "unload":
            s.unload(n(args[0]), n(args[1]), n(args[2]) if len(args) > 2 else 0)
        elif verb == "fill":
            device, kind, first, step, count, size = args
            s.begin()
            for i in range(n(count)):
                s.alloc(n(device), kind, n(first) + i * n(step), n(size))
            s.flush()
        elif verb == "unfill":
            device, first, step, count = map(n, args)
            s.begin()
            for i in range(count):
                s.free(device, first + i * step)
            s.flush()
        elif verb == "query":
            return self.reply(s.query(n(args[0])))
        elif verb == "info":
            return self.reply(s.info(n(args[0])))
        elif verb == "dump":
            s.message(DUMP)
        elif verb == "dumpkernels":
            s.message(DUMP_KERNELS)
        elif verb == "msg":
            kind, device, size, buffer_type, pid, address, when = map(n, args)
            s.message(kind, device, size, buffer_type, address, when, pid)
        elif verb == "raw":
            s.send(bytes.fromhex("".join(args)))
        elif verb == "as":
            own, s.pid = s.pid, n(args[0])
            try:
                return self.obey(args[1:])
            finally:
                s.pid = own
        elif verb == "child":
            return self.child(args)
        elif verb == "reap":
            self.reap()
        elif verb == "connect":
            s.connect()
        elif verb == "close":
            s.close()
        elif verb == "eof":
            s.sock.shutdown(socket.SHUT_WR)
        elif verb == "closed":
            while s.sock.recv(65536):
                pass
            return "closed"
        elif verb == "pid":
            return str(os.getpid())
        elif verb == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise ValueError("no such verb: " + verb)
        return "ok"

    def child(self, words):
        answer_r, answer_w = os.pipe()
        stay_r, stay_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(answer_r)
            os.close(stay_w)
            for _, other in self.children:
                os.close(other)
            self.sender.pid = os.getpid()
            os.write(answer_w, self.obey(words).encode())
            os.close(answer_w)
            os.read(stay_r, 1)
            os._exit(0)
        os.close(answer_w)
        os.close(stay_r)
        answer = b""
        while True:
            more = os.read(answer_r, 4096)
            if not more:
                break
            answer += more
        os.close(answer_r)
        self.children.append((pid, stay_w))
        return "%d %s" % (pid, answer.decode())

    def reap(self):
        for pid, fd in self.children:
            os.close(fd)
            os.waitpid(pid, 0)
        self.children = []


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", required=True)
    parser.add_argument("--dialect", type=int, default=72, choices=DIALECTS)
    parser.add_argument("--comm", help="name of this process")
    parser.add_argument("--no-connect", action="store_true", help="wait for the verb `connect`")
    args = parser.parse_args()
    if args.comm:
        set_comm(args.comm)
    command = Command(args)
    print("ready", os.getpid(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        if words[0] == "quit":
            break
        try:
            answer = command.obey(words)
        except OSError as e:
            answer = "error %s" % (os.strerror(e.errno) if e.errno else e)
        except (EOFError, ValueError, KeyError, IndexError, struct.error) as e:
            answer = "error %s" % e
        print(answer, flush=True)
    command.reap()
    return 0


if __name__ == "__main__":
    sys.exit(main())
