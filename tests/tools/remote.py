# SPDX-License-Identifier: GPL-2.0-or-later
"""A sender in a process of its own that does what it is told; used by the Python tests."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import ttsend  # noqa: E402


class Remote:
    """One process with one connection. send() returns when its send() has."""
    parents_fds = set()  # of all Remotes; a new process closes them, or the end of a pipe would never be seen

    def __init__(self, path, dialect, uid=None):
        self.dialect = dialect
        self.uid = os.getuid() if uid is None else uid
        orders_r, orders_w = os.pipe()
        done_r, done_w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for fd in Remote.parents_fds | {orders_w, done_r}:
                os.close(fd)
            if self.uid != os.getuid():
                os.setgroups([])
                os.setgid(self.uid)
                os.setuid(self.uid)
            s = ttsend.Sender(path, dialect)
            os.write(done_w, b".")
            while True:
                data = os.read(orders_r, dialect)
                if not data:
                    os._exit(0)
                s.send(data)
                os.write(done_w, b".")
        os.close(orders_r)
        os.close(done_w)
        self.orders, self.done = orders_w, done_r
        Remote.parents_fds |= {orders_w, done_r}
        self.wait()

    def wait(self):
        if os.read(self.done, 1) != b".":
            raise RuntimeError("process %d ended" % self.pid)

    def send(self, kind, device=0, size=0, buffer_type=0, address=0, when=0):
        os.write(self.orders, ttsend.message(self.dialect, kind, device, size, buffer_type, self.pid, address, when))
        self.wait()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self):
        """It exits, or was killed; returns when it is waited for."""
        for fd in (self.orders, self.done):
            os.close(fd)
            Remote.parents_fds.discard(fd)
        os.waitpid(self.pid, 0)
