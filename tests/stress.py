#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random events with every fault, from processes that are killed at random; at the end the mount equals the model.

    stress.py --mount DIR --socket PATH [--seed N] concurrent [--processes N] [--events N]
    stress.py --mount DIR --socket PATH [--seed N] serial [--events N]

concurrent: N processes at once, each sends its number of events in several lives. A life ends by its own SIGKILL after
a chosen event, by the parent's SIGKILL at any moment, by exit, or not at all. All use the same devices and addresses,
plus a device of their own. What a process does is determined by its seed, and never depends on the others: it frees
only what it owns, what it owned a moment ago (a double free), or what nobody ever owned. So the model can take the
lives one after the other, although nobody knows how they mixed. Of a life that was killed from outside, the number of
events that got through is asked from the server; then everything else has to follow from that number. Meanwhile a
reader checks what must hold at any moment.

serial: a handful of processes of two users on few addresses; each event is taken in before the next is sent, so the
rules between processes (foreign, double, rerouted, ended owners) are checked too, exactly and with all peaks.
"""
import argparse
import os
import random
import select
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import Model  # noqa: E402
from tools.mount import Mount, Report, compare  # noqa: E402
from tools.remote import Remote  # noqa: E402
import ttsend  # noqa: E402

SHARED_DEVICES = 4
OWN_DEVICE = 16  # + number of the process
ADDRESSES = 1500
BATCH_MAX = 120
NOBODY = 65534


class Life:
    """The events of one life of one process: a generator of message tuples that depends on nothing else."""

    def __init__(self, seed, slot, number, dialect):
        self.rng = random.Random("%d/%d/%d" % (seed, slot, number))
        self.slot = slot
        self.number = number
        self.dialect = dialect
        self.live = []      # [device, type, address] of what it holds, a reference each
        self.recent = []    # (device, address) of what it freed last

    def events(self):
        rnd = self.rng.random
        live, recent = self.live, self.recent
        big = self.dialect >= 128
        unknown = 0xA00000000000 | self.slot << 36 | self.number << 28
        while True:
            p = rnd()
            if p < 0.50 or not live:
                q = rnd()
                if q < 0.12 and live:  # again at a live address: a reference, or another size
                    device, kind, address = live[int(rnd() * len(live))]
                else:
                    device = int(rnd() * SHARED_DEVICES) if rnd() < 0.6 else OWN_DEVICE + self.slot
                    n = int(rnd() * ADDRESSES)
                    address = 0x10000000 + n * 0x800
                    kind = n % 5 if rnd() < 0.93 else int(rnd() * 5)
                    if big and rnd() < 0.15:
                        kind = 5 + int(rnd() * 2)
                size = 256 * (1 + address // 0x800 % 64) if rnd() < 0.9 else 1 + int(rnd() * 100000)
                live.append((device, kind, address))
                if kind == 5:
                    yield ttsend.CB_ALLOC, device, size, 0, address, 1
                elif kind == 6:
                    yield ttsend.KERNEL_LOAD, device, size, int(rnd() * 3), address, 1
                else:
                    yield ttsend.ALLOC, device, size, kind, address, 1
            elif p < 0.93:
                i = int(rnd() * len(live))
                device, kind, address = live[i]
                live[i] = live[-1]
                live.pop()
                if kind == 5:
                    yield ttsend.CB_FREE, device, 1, 0, address, 0
                elif kind == 6:
                    yield ttsend.KERNEL_UNLOAD, device, 1, 0, address, 0
                else:
                    recent.append((device, address))
                    if len(recent) > 200:
                        del recent[:100]
                    yield ttsend.FREE, device, 0, 0, address, 0
            elif p < 0.96 and recent:
                # Freed a moment ago: a double free, or a free of another type that lives there, or of another device
                # (rerouted). The model knows. `live` may then name what is gone: another double free, later.
                device, address = recent[int(rnd() * len(recent))]
                yield ttsend.FREE, device, 0, 0, address, 0
            elif p < 0.985:
                unknown += 16
                kind = int(rnd() * 3) if big else 0
                yield ((ttsend.FREE, ttsend.CB_FREE, ttsend.KERNEL_UNLOAD)[kind], int(rnd() * SHARED_DEVICES), 0, 0,
                       unknown, 0)
            else:
                yield ((ttsend.ALLOC, -1, 5, 0, 16, 1), (ttsend.ALLOC, 1024, 5, 0, 16, 1),
                       (ttsend.ALLOC, 0, 0, 0, 16, 1), (ttsend.ALLOC, 0, (1 << 56) + 1, 0, 16, 1),
                       (ttsend.ALLOC, 0, 5, 5, 16, 1), (ttsend.FREE, 2000, 0, 0, 16, 0),
                       (ttsend.RESPONSE, 0, 0, 0, 0, 0))[int(rnd() * 7)]


def live_and_die(path, life, count, die, progress, stay):
    """The child. die: number of the event after which it kills itself, or 0; then `count` events, and it stays until
    `stay` is closed."""
    s = ttsend.Sender(path, life.dialect)
    rng = random.Random(life.slot * 1000 + life.number)
    sent = 0
    source = life.events()
    end = die or count
    while sent < end:
        n = min(end - sent, 1 + int(rng.random() * BATCH_MAX))
        s.begin()
        for _ in range(n):
            kind, device, size, buffer_type, address, when = next(source)
            s.message(kind, device, size, buffer_type, address, when)
        s.flush()
        sent += n
        os.write(progress, sent.to_bytes(8, "little"))
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    os.read(stay, 1)
    os._exit(0)


class Running:
    """A life under way, as the parent sees it."""

    def __init__(self, args, slot, number, count, plan):
        self.life_of = (slot, number)
        self.dialect = ttsend.DIALECTS[(slot + number) % 4]
        self.plan, self.at = plan
        self.count = count
        self.told = 0
        self.slot = slot
        self.number = number
        progress_r, progress_w = os.pipe()
        stay_r, stay_w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(progress_r)
            os.close(stay_w)
            for fd in Running.open_fds:
                os.close(fd)
            signal.alarm(0)
            live_and_die(args.socket, Life(args.seed, slot, number, self.dialect), count,
                         self.at if plan[0] == "self" else 0, progress_w, stay_r)
        os.close(progress_w)
        os.close(stay_r)
        self.progress, self.stay = progress_r, stay_w
        Running.open_fds.update((progress_r, stay_w))

    open_fds = set()

    def read(self):
        """Takes its progress; False at the end of it."""
        data = os.read(self.progress, 8)
        if not data:
            return False
        self.told = int.from_bytes(data, "little")
        return True

    def finish(self):
        """Lets it exit, unless it was killed, and takes what it told before it ended."""
        os.close(self.stay)
        while self.read():
            pass
        os.close(self.progress)
        Running.open_fds -= {self.stay, self.progress}
        os.waitpid(self.pid, 0)


def watch_invariants(mount, stay):
    """The reader: what holds at any moment, in any single file. Exits 1 with words when it does not."""
    rounds = 0
    while not select.select([stay], [], [], 0)[0]:
        rounds += 1
        stats = mount.stats()
        if int(stats["live_buffers"]) != int(stats["allocs_total"]) - int(stats["frees_total"]):
            print("FAIL reader: stats: live_buffers is not allocs - frees: %r" % stats)
            os._exit(1)
        for number in mount.devices():
            rows = mount.device(number)
            total = rows.pop("total")
            for i, what in ((0, "count"), (1, "bytes"), (5, "allocs"), (6, "frees")):
                if sum(r[i] for r in rows.values()) != total[i]:
                    print("FAIL reader: device%d/summary: total %s is not the sum: %r %r" % (number, what, rows, total))
                    os._exit(1)
            for kind, row in list(rows.items()) + [("total", total)]:
                if row[0] != row[5] - row[6] or row[1] > row[2]:
                    print("FAIL reader: device%d/summary: %s: %r" % (number, kind, row))
                    os._exit(1)
        if rounds % 5 == 1:
            rows = mount.allocs()
            if len({r[8] for r in rows}) != len(rows):  # (an address may be there twice: freed and used again)
                print("FAIL reader: allocs: a buffer twice")
                os._exit(1)
            mount.suspects()
            mount.processes()
            mount.text("summary")
            os.listdir(mount.join("leaks"))
    print("reader: %d rounds" % rounds)
    os._exit(0)


def concurrent(args, mount, report):
    rng = random.Random(args.seed)
    stay_r, stay_w = os.pipe()
    sys.stdout.flush()
    reader = os.fork()
    if reader == 0:
        os.close(stay_w)
        try:
            watch_invariants(mount, stay_r)
        except (OSError, ValueError, KeyError) as e:
            print("FAIL reader: %s: %s" % (type(e).__name__, e))
            os._exit(1)
    os.close(stay_r)
    Running.open_fds.add(stay_w)

    lives = {slot: [] for slot in range(args.processes)}  # what has ended or stays, in order: (Running, events)
    left = dict.fromkeys(lives, args.events)
    running = {}

    def start(slot):
        number = len(lives[slot])
        count = left[slot]
        plan = ("stay", 0)
        if number < 4 and count > 2000:
            kind = rng.choice(("self", "kill", "kill"))
            plan = (kind, rng.randrange(1000, max(1001, count // 2)))
        elif slot % 2:
            plan = ("exit", 0)
        running[slot] = Running(args, slot, number, count, plan)

    def ended(run):
        """Of an ended life: how many events got through."""
        if run.plan == "self":
            report.eq("process %d, life %d: told all it sent" % run.life_of, run.at, run.told)
        rows = mount.processes().get(run.pid, [])
        if len(rows) != 1:
            # the pid came twice; nothing can be asked, which is only fine if nothing is unknown
            report.ok("process %d, life %d: pid %d is known once" % (run.life_of + (run.pid,)), run.plan != "kill")
            return run.told
        got = int(rows[0]["events"])
        if run.plan == "kill":
            report.ok("process %d, life %d: told %d, %d got through" % (run.life_of + (run.told, got)),
                      run.told <= got <= min(run.told + BATCH_MAX, run.count))
        else:
            report.eq("process %d, life %d: events that got through" % run.life_of, run.told, got)
        report.eq("process %d, life %d: state" % run.life_of, "dead", rows[0]["state"])
        return got

    started = time.monotonic()
    for slot in lives:
        start(slot)
    while running:
        ready = select.select([r.progress for r in running.values()], [], [])[0]
        for slot, run in list(running.items()):
            if run.progress not in ready:
                continue
            more = run.read()
            if more and run.plan == "kill" and run.told >= run.at:
                os.kill(run.pid, signal.SIGKILL)  # while it goes on sending
                more = False
            if more and run.told < run.count:
                continue
            del running[slot]
            if run.plan == "stay":
                lives[slot].append((run, run.told))
                left[slot] = 0
                continue
            run.finish()
            got = ended(run)
            lives[slot].append((run, got))
            left[slot] -= got
            if left[slot] > 0:
                start(slot)
    print("%d events in %.1f s, lives %s" % (args.processes * args.events, time.monotonic() - started,
                                             " ".join(str(len(v)) for v in lives.values())), flush=True)
    os.close(stay_w)
    report.eq("reader: exit status", 0, os.waitpid(reader, 0)[1])

    model = Model()
    for slot, its in lives.items():
        for run, got in its:
            started, over = times(mount, run.pid)
            process = model.process(run.pid, os.getuid(), started)
            source = Life(args.seed, slot, run.number, run.dialect).events()
            for _ in range(got):
                kind, device, size, buffer_type, address, when = next(source)
                model.message(process, run.dialect, kind, device, size, buffer_type, run.pid, address, when)
            if run.plan != "stay":
                model.exit(process, over)
    report.eq("all events were sent", args.processes * args.events, model.counters["events_total"])
    for name in ("refs_total", "resized_total", "unrefs_total", "double_frees", "unknown_frees", "ambiguous_frees",
                 "rerouted_frees", "refused_events"):
        report.ok("the workload has %s" % name, model.counters[name] > 0)
    compare(report, mount, model, "concurrent", shared=range(SHARED_DEVICES))
    for number in range(SHARED_DEVICES):
        rows = mount.device(number)
        for i, kind in enumerate(ttsend.TYPES):
            most = sum(p.types[i].peak for p in model.processes)
            report.ok("device%d %s: peak %d is possible" % (number, kind, rows[kind][2]), rows[kind][2] <= most)
    report.eq("leaks/ are the suspects", mount.leak_names(), sorted(os.listdir(mount.join("leaks"))))

    # the end of those that stayed
    for its in lives.values():
        run = its[-1][0]
        if run.plan == "stay":
            run.finish()
            for process in model.processes:
                if process.pid == run.pid:
                    model.exit(process)
    compare(report, mount, model, "all ended", shared=range(SHARED_DEVICES))
    with open(mount.join("ctl"), "w", encoding="utf-8") as f:
        f.write("clean dead\n")
    report.eq("clean dead: nothing is left", ("0", "0", "0"),
              tuple(mount.stats()[k] for k in ("live_buffers", "live_bytes", "suspects")))
    report.eq("clean dead: allocs", [], mount.allocs())


def times(mount, pid):
    """When the server says that a process was started and has ended, in us: who can have met whom is up to that."""
    status = mount.keyed("pids", str(pid), "status")
    return [None if status[key] == "-" else int(status[key].replace(".", "")) for key in ("started", "ended")]


def serial(args, mount, report):
    rng = random.Random(args.seed)
    model = Model()
    other = NOBODY if os.getuid() == 0 else os.getuid()
    people = []  # [Remote, Process]

    def arrive(i):
        uid = other if i % 4 == 3 else os.getuid()
        person = Remote(args.socket, rng.choice(ttsend.DIALECTS), uid)
        return [person, model.process(person.pid, uid, None)]

    seen = {}
    commands = random.Random(args.seed)
    for i in range(6):
        people.append(arrive(i))
    for n in range(args.events):
        p = rng.random()
        i = rng.randrange(len(people))
        person, process = people[i]
        if p < 0.004:
            if p < 0.002:
                person.kill()
            else:
                person.end()
            mount.barrier()
            model.exit(process, times(mount, person.pid)[1])
            people[i] = arrive(i)
            mount.barrier()
            continue
        device = rng.choice((0, 0, 1, 2))
        address = 0x1000 * rng.randrange(1, 9)
        kind = rng.choice((0, 0, 0, 1, 4))
        size = rng.choice((100, 100, 100, 5000, 70000))
        if p < 0.45:
            event = (ttsend.ALLOC, device, size, kind, address, 0)
        elif p < 0.55 and person.dialect >= 128:
            event = rng.choice(((ttsend.CB_ALLOC, device, size, 0, address, 0),
                                (ttsend.CB_FREE, device, size, 0, address, 0),
                                (ttsend.KERNEL_LOAD, device, size, rng.randrange(3), address, 0),
                                (ttsend.KERNEL_UNLOAD, device, size, 0, address, 0)))
        else:
            event = (ttsend.FREE, device, 0, 0, address, 0)
        person.send(*event)
        mount.barrier()
        if process.started is None:
            process.started = times(mount, person.pid)[0]
        what = model.message(process, person.dialect, *event[:4], person.pid, *event[4:])
        seen[what] = seen.get(what, 0) + 1
        if n % 97 == 0:
            # the last thing in `trace` is this
            line = mount.lines("trace")[-1].split(" ")
            want = {"foreign_refused": "foreign_free"}.get(what, what)
            if want != "refused":
                report.eq("event %d: trace" % n, want, line[2])
        if n % 250 == 100:
            command = commands.choice(("clear", "scan", "scan", "scan"))
            with open(mount.join("ctl"), "w", encoding="utf-8") as f:
                f.write(command)
            getattr(model, command)()
            for b in model.suspects():
                seen[b.reason()] = seen.get(b.reason(), 0) + 1
        if n % 500 == 499:
            compare(report, mount, model, "after %d events" % (n + 1))
            if report.failures:
                break
    compare(report, mount, model, "serial")
    print("seen: " + " ".join("%s=%d" % i for i in sorted(seen.items())), "died with buffers:",
          len({b.owner for b in model.suspects()}))
    for what in ("alloc", "ref", "resize", "free", "unref", "double_free", "unknown_free", "foreign_free",
                 "foreign_refused", "died", "outlived"):
        report.ok("the workload has %s" % what, seen.get(what))
    report.ok("the workload has ambiguous and rerouted frees",
              model.counters["ambiguous_frees"] and model.counters["rerouted_frees"])
    for person, process in people:
        person.end()
        model.exit(process)
    compare(report, mount, model, "serial, all ended")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mount", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--events", type=int, default=100000)
    parser.add_argument("part", choices=("concurrent", "serial"))
    args = parser.parse_args()
    report = Report()
    mount = Mount(args.mount)
    if args.part == "concurrent":
        concurrent(args, mount, report)
    else:
        serial(args, mount, report)
    return report.end("stress %s, seed %d" % (args.part, args.seed))


if __name__ == "__main__":
    sys.exit(main())
