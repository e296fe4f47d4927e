# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reports device memory to the ttalloc server from Python: libttalloc's functions, and tags.

    import ttalloc

    ttalloc.alloc(0, "dram", address, size)        # after the device allocator gave it out
    ttalloc.free(0, address)                       # before the device allocator takes it back

    with ttalloc.tag("model.layers.3"):            # what is allocated in here has this tag
        layer.load()

    @ttalloc.tagged                                # the tag is the function's name: module.Class.method
    def forward(x): ...

    with ttalloc.tag_here():                       # the tag is this line: module.function:line
        cache = make_cache()

    ttalloc.mark("step")                           # marks/step/ reports what has changed since

Whether anything is reported is decided when this module is imported: the environment has TT_ALLOC_TRACKING_ENABLED=1,
and the library is found, as $TTALLOC_LIBRARY or, if that is not set or cannot be loaded, by the name that the loader
knows, libttalloc.so.0. If not, enabled() is False, every function does nothing and returns None (counters() returns
zeros), and nothing raises an exception; `tagged` then gives the function back as it is, and costs nothing.

Tags
    The tags of a thread are a stack; an allocation carries all names on it, outermost first, joined by '/' (see
    libttalloc(3) for the longest). The stack is libttalloc's and belongs to the thread of the operating system. So it
    also covers what C and C++ code reports when it is called from inside, if it uses the same copy of the library: one
    shared libttalloc.so.0, not one linked in. A new thread, and so the thread of a pool, begins without tags.

    Do not `yield` or `await` inside a `with` block that sets a tag: until the block goes on, the tag would cover
    whatever else the thread does, and the blocks of several tasks would end in the wrong order. `tagged` is made for
    that: a generator or a coroutine function that it decorates has its tag exactly while it runs, on whichever thread
    that is, and not while it is suspended. Asynchronous generators it refuses, with TypeError.

Errors
    Events never fail visibly; counters() tells what became of them. An argument that could not even be passed on is a
    mistake in the program: TypeError for what is no whole number, OverflowError for a number that does not fit its C
    type, ValueError for an unknown name of a type. A device, size or type that fits but is out of range is sent as it
    is, and the server counts it as refused. Questions (sync, dump, query, device_info, device_count) raise OSError with
    the errno that ttalloc.h gives for them.

Threads, fork
    Everything may be called from any thread, and after os.fork(): the child reports for itself. An event holds the
    interpreter's lock, since it is over before that could be given away; only a server that does not read can make it
    wait, once, 100 ms at most. Questions release the lock while they wait.
"""
import collections
import ctypes
import errno
import functools
import inspect
import operator
import os
import sys
import types

__all__ = ["alloc", "free", "cb_alloc", "cb_free", "kernel_load", "kernel_unload", "device", "tag", "tagged",
           "tag_here", "mark", "sync", "dump", "query", "device_info", "device_count", "counters", "enabled", "TYPES",
           "KERNEL_CLASSES", "ARCHITECTURES", "Totals", "Capacity", "Counters"]

# Names that may be given instead of the numbers of ttalloc.h; those of the mount.
TYPES = {"dram": 0, "l1": 1, "system_memory": 2, "l1_small": 3, "trace": 4}
KERNEL_CLASSES = {"application": 0, "fabric": 1, "dispatch": 2}
ARCHITECTURES = {"unknown": 0, "grayskull": 1, "wormhole_b0": 2, "blackhole": 3, "quasar": 4}

Totals = collections.namedtuple("Totals", "dram l1 l1_small trace cb kernel")
Capacity = collections.namedtuple("Capacity", "dram l1 dram_channels dram_per_channel l1_per_core arch")
Counters = collections.namedtuple("Counters",
                                  "sent queued dropped uncertain connections failed_attempts stalls rings "
                                  "unlogged")


class _Totals(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in Totals._fields]


class _Capacity(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64 if name in ("dram", "l1") else ctypes.c_uint32) for name in Capacity._fields]


class _Counters(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in Counters._fields] + [("reserved", ctypes.c_uint64 * 7)]


# ---- the library ----

_T, _INT, _U8, _U64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint8, ctypes.c_uint64

# Called with the interpreter's lock held: for what takes nanoseconds, giving it away and waiting for it is dear.
_EVENTS = {
    "ttalloc_default": (_T, ()),
    "ttalloc_alloc": (None, (_T, _INT, _U8, _U64, _U64)),
    "ttalloc_free": (None, (_T, _INT, _U64)),
    "ttalloc_cb_alloc": (None, (_T, _INT, _U64, _U64)),
    "ttalloc_cb_free": (None, (_T, _INT, _U64, _U64)),
    "ttalloc_kernel_load": (None, (_T, _INT, _U8, _U64, _U64)),
    "ttalloc_kernel_unload": (None, (_T, _INT, _U64, _U64)),
    "ttalloc_device": (None, (_T, _INT, ctypes.POINTER(_Capacity))),
    "ttalloc_get_counters": (None, (_T, ctypes.POINTER(_Counters))),
    "ttalloc_tag_push": (None, (ctypes.c_char_p,)),
    "ttalloc_tag_pop": (None, ()),
    "ttalloc_mark": (_INT, (_T, ctypes.c_char_p)),
}
# Called without it.
_QUESTIONS = {
    "ttalloc_sync": (_INT, (_T,)),
    "ttalloc_dump": (_INT, (_T,)),
    "ttalloc_query": (_INT, (_T, _INT, ctypes.POINTER(_Totals))),
    "ttalloc_device_info": (_INT, (_T, _INT, ctypes.POINTER(_Capacity))),
    "ttalloc_device_count": (_INT, (_T, ctypes.POINTER(ctypes.c_uint32))),
}


def _functions(library, table):
    """The functions of one table; AttributeError if the library lacks one."""
    found = {}
    for name, (result, arguments) in table.items():
        function = found[name] = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return found


def _load():
    """All functions of the library by name, or None where there is none that has them."""
    for path in (os.environ.get("TTALLOC_LIBRARY"), "libttalloc.so.0"):
        if path:
            try:
                return types.SimpleNamespace(**_functions(ctypes.PyDLL(path), _EVENTS),
                                             **_functions(ctypes.CDLL(path), _QUESTIONS))
            except (OSError, AttributeError):
                continue
    return None


_lib = _load() if os.environ.get("TT_ALLOC_TRACKING_ENABLED") == "1" else None
_instance = _lib.ttalloc_default() if _lib else None


def enabled():
    """True if events are reported."""
    return _instance is not None


# ---- arguments ----

def _number(value, low, high):
    value = operator.index(value)
    if not low <= value <= high:
        raise OverflowError("%d is not in %d..%d" % (value, low, high))
    return value


def _int(value):
    return _number(value, -1 << 31, (1 << 31) - 1)


def _u32(value):
    return _number(value, 0, (1 << 32) - 1)


def _u64(value):
    return _number(value, 0, (1 << 64) - 1)


def _named(value, names):
    """A number of ttalloc.h from its name, or from itself."""
    if isinstance(value, str):
        if value not in names:
            raise ValueError("%r is none of %s" % (value, ", ".join(names)))
        return names[value]
    return _number(value, 0, 255)


# ---- events ----

def alloc(device, type, address, size):
    """A buffer came to be at `address`; `type` is a name or number of TYPES. At a live one: one more reference."""
    if _instance is not None:
        _lib.ttalloc_alloc(_instance, _int(device), _named(type, TYPES), _u64(address), _u64(size))


def free(device, address):
    """The buffer at `address` has one reference less; without any left, it is gone."""
    if _instance is not None:
        _lib.ttalloc_free(_instance, _int(device), _u64(address))


def cb_alloc(device, address, size):
    """A circular buffer came to be."""
    if _instance is not None:
        _lib.ttalloc_cb_alloc(_instance, _int(device), _u64(address), _u64(size))


def cb_free(device, address, size=0):
    """A circular buffer goes. `size` is for the server's log only."""
    if _instance is not None:
        _lib.ttalloc_cb_free(_instance, _int(device), _u64(address), _u64(size))


def kernel_load(device, kernel_class, kernel_id, size):
    """A kernel binary was loaded; `kernel_class` is a name or number of KERNEL_CLASSES."""
    if _instance is not None:
        _lib.ttalloc_kernel_load(_instance, _int(device), _named(kernel_class, KERNEL_CLASSES), _u64(kernel_id),
                                 _u64(size))


def kernel_unload(device, kernel_id, size=0):
    """A kernel binary goes. `size` is for the server's log only."""
    if _instance is not None:
        _lib.ttalloc_kernel_unload(_instance, _int(device), _u64(kernel_id), _u64(size))


def device(number, dram=0, l1=0, dram_channels=0, dram_per_channel=0, l1_per_core=0, arch="unknown"):
    """What device `number` is: bytes of memory, 0 where not known; `arch` is a name or number of ARCHITECTURES."""
    if _instance is not None:
        capacity = _Capacity(_u64(dram), _u64(l1), _u32(dram_channels), _u32(dram_per_channel), _u32(l1_per_core),
                             _named(arch, ARCHITECTURES))
        _lib.ttalloc_device(_instance, _int(number), ctypes.byref(capacity))


# ---- tags ----

class _Nothing:
    """A tag when nothing is reported."""

    __slots__ = ()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


class _Tag:
    """Holds nothing but the name, so one may be entered again and by several threads."""

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = str(name).encode("utf-8", "replace")

    def __enter__(self):
        _lib.ttalloc_tag_push(self.name)
        return self

    def __exit__(self, *exception):
        _lib.ttalloc_tag_pop()


_NOTHING = _Nothing()


def tag(name):
    """A context manager: what this thread allocates inside has the tag `name` (under the tags outside of it)."""
    return _NOTHING if _instance is None else _Tag(name)


def tag_here():
    """A context manager like tag(), with the calling line for a name: module.function:line."""
    if _instance is None:
        return _NOTHING
    frame = sys._getframe(1)
    code = frame.f_code
    return _Tag("%s.%s:%d" % (frame.f_globals.get("__name__", "?"), getattr(code, "co_qualname", code.co_name),
                              frame.f_lineno))


def tagged(function=None, name=None):
    """A decorator: the tag is set while the function runs. @tagged takes the function's name, @tagged(name="x") that.

    Generators and coroutines have it while they run and not while they are suspended.
    """
    if function is None:
        return functools.partial(tagged, name=name)
    if inspect.isasyncgenfunction(function):
        raise TypeError("an asynchronous generator cannot be tagged: %r" % function)
    its = _Tag("%s.%s" % (function.__module__, function.__qualname__) if name is None else name)
    if _instance is None:
        return function

    if inspect.iscoroutinefunction(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            return await _Awaitable(_stepwise(its, function(*args, **kwargs)))
    elif inspect.isgeneratorfunction(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return (yield from _stepwise(its, function(*args, **kwargs)))
    else:
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with its:
                return function(*args, **kwargs)
    return wrapper


class _Awaitable:
    """What a generator yields and returns, for `await`."""

    __slots__ = ("generator",)

    def __init__(self, generator):
        self.generator = generator

    def __await__(self):
        return self.generator


def _stepwise(its, inner):
    """What `yield from inner` does (PEP 380), for a generator or a coroutine, with a tag around each of its steps."""
    step, value = inner.send, None
    while True:
        try:
            with its:
                wanted = step(value)
        except StopIteration as end:
            return end.value
        try:
            step, value = inner.send, (yield wanted)
        except BaseException as error:  # whatever it is, also GeneratorExit, it is for the inner one
            step, value = inner.throw, error


# ---- marks ----

def mark(name):
    """From now on marks/<name>/ reports what has changed; an iteration that makes one shows what grows.

    ValueError for what is no name: 1 to 63 of A-Z a-z 0-9 . _ - without a leading dot.
    """
    if _instance is None:
        return
    text = str(name)
    if "\0" in text or _lib.ttalloc_mark(_instance, text.encode("utf-8", "replace")) < 0:
        raise ValueError("%r is not a name of a mark" % (name,))


# ---- questions ----

def _check(result):
    if result < 0:
        raise OSError(-result, "ttalloc: " + os.strerror(-result))


def sync():
    """Waits until the server has booked everything reported before."""
    if _instance is not None:
        _check(_lib.ttalloc_sync(_instance))


def dump():
    """Makes the server freeze a report of everything that is live, and waits until it has."""
    if _instance is not None:
        _check(_lib.ttalloc_dump(_instance))


def query(device):
    """Totals: the bytes in use on a device, of all processes together."""
    if _instance is None:
        return None
    totals = _Totals()
    _check(_lib.ttalloc_query(_instance, _int(device), ctypes.byref(totals)))
    return Totals(*(getattr(totals, name) for name in Totals._fields))


def device_info(device):
    """The Capacity of a device, or None where the server does not know it."""
    if _instance is None:
        return None
    capacity = _Capacity()
    result = _lib.ttalloc_device_info(_instance, _int(device), ctypes.byref(capacity))
    if result == -errno.ENODEV:
        return None
    _check(result)
    return Capacity(*(getattr(capacity, name) for name in Capacity._fields))


def device_count():
    """The number of devices whose capacity the server knows."""
    if _instance is None:
        return None
    count = ctypes.c_uint32()
    _check(_lib.ttalloc_device_count(_instance, ctypes.byref(count)))
    return count.value


def counters():
    """Counters: what became of the events that this process reported."""
    found = _Counters()
    if _instance is not None:
        _lib.ttalloc_get_counters(_instance, ctypes.byref(found))
    return Counters(*(getattr(found, name) for name in Counters._fields))
