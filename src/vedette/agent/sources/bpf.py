"""eBPF objects: compiled code of ours goes into the kernel; its programs, maps and ring come back.

ctypes on libbpf. What is loaded is held by file descriptors alone and nothing is pinned: when the process
ends, in whatever way, the kernel removes programs, links and maps. What the programs count does not live
here.

What a kernel lacks leaves this module as Unavailable; a failed operation on a map as OSError with its name.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from ctypes import CFUNCTYPE, POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

from vedette.agent.sources import Unavailable
from vedette.agent.sources.files import attribute
from vedette.agent.sources.procfs import effective_capabilities

OBJECTS = Path(__file__).parent.parent / "bpf"
LIBRARY = "libbpf.so.1"
KERNEL_FLOOR = (5, 8)
"""First kernel with the BPF ring buffer, and with CAP_BPF and CAP_PERFMON apart from CAP_SYS_ADMIN."""

BTF = Path("/sys/kernel/btf/vmlinux")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
CAPABILITIES = {"CAP_PERFMON": 38, "CAP_BPF": 39}
CAP_SYS_ADMIN = 21

BATCH = 512
"""Entries taken out of a map in one system call. The kernel goes bucket by bucket and refuses one that is
larger; a hash map has at least as many buckets as entries, so none comes near."""

RECORDS_MAX = 4096
"""Records handed over by one `Ring.drain`, so that other work gets its turn while a ring keeps filling."""

ENOTSUPP = 524
"""The kernel's own number for an operation that a map lacks; it has no name in user space."""

PER_CPU = frozenset({5, 6, 10})
"""BPF_MAP_TYPE_PERCPU_HASH, _PERCPU_ARRAY and _LRU_PERCPU_HASH: map types with a value for each CPU."""
MAP_TYPE_HASH = 1

CGROUP_SOCK_CREATE, TCX_INGRESS, TCX_EGRESS = 2, 46, 47
"""Where `Loaded.link` attaches: enum bpf_attach_type of linux/bpf.h. tcx came with kernel 6.6."""

_OnRecord = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "bpf_object__open_file": (c_void_p, [c_char_p, c_void_p]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__next_map": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__find_map_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_map__name": (c_char_p, [c_void_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__type": (c_int, [c_void_p]),
    "bpf_map__key_size": (c_uint32, [c_void_p]),
    "bpf_map__value_size": (c_uint32, [c_void_p]),
    "bpf_map__set_max_entries": (c_int, [c_void_p, c_uint32]),
    "bpf_map__set_initial_value": (c_int, [c_void_p, c_char_p, c_size_t]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_program__set_autoload": (c_int, [c_void_p, c_bool]),
    "bpf_raw_tracepoint_open": (c_int, [c_char_p, c_int]),
    "bpf_link_create": (c_int, [c_int, c_int, c_int, c_void_p]),
    "bpf_map_create": (c_int, [c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p]),
    "bpf_map_lookup_elem": (c_int, [c_int, c_char_p, c_void_p]),
    "bpf_map_lookup_and_delete_elem": (c_int, [c_int, c_char_p, c_void_p]),
    "bpf_map_update_elem": (c_int, [c_int, c_char_p, c_char_p, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_char_p]),
    "bpf_map_get_next_key": (c_int, [c_int, c_char_p, c_void_p]),
    "bpf_map_lookup_and_delete_batch": (
        c_int,
        [c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p],
    ),
    "ring_buffer__new": (c_void_p, [c_int, _OnRecord, c_void_p, c_void_p]),
    "ring_buffer__consume": (c_int, [c_void_p]),
    "ring_buffer__free": (None, [c_void_p]),
    "libbpf_num_possible_cpus": (c_int, []),
    "libbpf_set_print": (c_void_p, [c_void_p]),
}


@functools.cache
def _libbpf() -> ctypes.CDLL:
    """The library, every signature declared. Raises Unavailable where it is not installed."""
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError:
        raise Unavailable(f"{LIBRARY} is not installed", remedy="install the package libbpf1") from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(None)  # it would write its own warnings to standard error
    return library


def obstacles() -> Iterator[Unavailable]:
    """Everything that keeps eBPF from working here, each with its remedy; nothing if it should work."""
    release = os.uname().release
    version = re.match(r"(\d+)\.(\d+)", release)
    if version and tuple(map(int, version.groups())) < KERNEL_FLOOR:
        yield Unavailable(f"kernel {release} is older than 5.8", remedy="run a newer kernel")
    if sys.byteorder != "little":
        yield Unavailable("the processor is big-endian", remedy="none: the shipped objects are little-endian")
    if not BTF.exists():
        yield Unavailable(f"{BTF} is missing", remedy="run a kernel built with CONFIG_DEBUG_INFO_BTF=y")
    if "[confidentiality]" in attribute(LOCKDOWN):
        yield Unavailable("kernel lockdown forbids it", remedy="boot with lockdown=integrity or without it")
    if lacking := _lacking_capabilities():
        yield Unavailable(
            f"{' and '.join(lacking)} missing", remedy="grant them to the agent, or run as root"
        )
    try:
        _libbpf()
    except Unavailable as missing:
        yield missing


def _lacking_capabilities() -> list[str]:
    effective = effective_capabilities()
    if effective >> CAP_SYS_ADMIN & 1:
        return []
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


class Map:
    """A map in the kernel. Keys and values are bytes, laid out as the C side declares them.

    The value of a per-CPU map is one value for each possible CPU, each padded to 8 bytes, in a row.
    """

    def __init__(self, name: str, fd: int, key_size: int, value_size: int) -> None:
        self.name = name
        self.fd = fd
        self._library = _libbpf()
        self._key_size = key_size
        self.value_size = value_size
        self._value = ctypes.create_string_buffer(value_size)

    @classmethod
    def hash(cls, name: str, key_size: int, value_size: int, entries: int) -> Map:
        """A new hash map, which lives as long as somebody holds it. Raises OSError."""
        fd = _libbpf().bpf_map_create(MAP_TYPE_HASH, name.encode(), key_size, value_size, entries, None)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd), f"BPF map {name}")
        return cls(name, fd, key_size, value_size)

    def get(self, key: bytes) -> bytes | None:
        """The value under a key, or None."""
        result = self._library.bpf_map_lookup_elem(self.fd, key, self._value)
        return self._value.raw if self._found(result) else None

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value. On a map of maps, whose value is a file descriptor, this returns only when no
        program can be using the former one any more."""
        self._check(self._library.bpf_map_update_elem(self.fd, key, value, 0))

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there (any more)."""
        return self._found(self._library.bpf_map_delete_elem(self.fd, key))

    def take(self, key: bytes) -> bytes | None:
        """Remove a key and return its last value, or None if it was not there."""
        result = self._library.bpf_map_lookup_and_delete_elem(self.fd, key, self._value)
        if result == -ENOTSUPP:  # hash maps learnt it in kernel 5.14
            value = self.get(key)
            return value if self.delete(key) else None
        return self._value.raw if self._found(result) else None

    def present(self) -> list[bytes]:
        """The keys at this moment. Bounded by the map; a key removed meanwhile may repeat others."""
        keys: dict[bytes, None] = {}
        key: bytes | None = None
        following = ctypes.create_string_buffer(self._key_size)
        while self._found(self._library.bpf_map_get_next_key(self.fd, key, following)):
            key = following.raw
            if key in keys:  # the kernel starts over when the key before was removed
                break
            keys[key] = None
        return list(keys)

    def take_all(self) -> Iterator[tuple[bytes, bytes]]:
        """Empty a hash map that nobody writes to, entry by entry."""
        keys = ctypes.create_string_buffer(self._key_size * BATCH)
        values = ctypes.create_string_buffer(self.value_size * BATCH)
        position, count = c_uint64(), c_uint32()
        start, more = None, True
        while more:
            count.value = BATCH
            result = self._library.bpf_map_lookup_and_delete_batch(
                self.fd, start, byref(position), keys, values, byref(count), None
            )
            start, more = byref(position), self._found(result)
            yield from zip(
                _slices(keys, self._key_size, count.value),
                _slices(values, self.value_size, count.value),
                strict=True,
            )

    def _found(self, result: int) -> bool:
        if result == -errno.ENOENT:
            return False
        self._check(result)
        return True

    def _check(self, result: int) -> None:
        if result < 0:
            raise OSError(-result, os.strerror(-result), f"BPF map {self.name}")


def _slices(buffer: ctypes.Array[ctypes.c_char], size: int, count: int) -> Iterator[bytes]:
    raw = buffer.raw
    return (raw[at : at + size] for at in range(0, size * count, size))


class Ring:
    """The reading end of a ring buffer. Its map's `fd` polls as readable when a program wants a reader."""

    def __init__(self, ring: Map) -> None:
        self.fd = ring.fd
        self._library = _libbpf()
        self._records: list[bytes] = []
        self._on_record = _OnRecord(self._keep)  # libbpf holds a bare pointer to it
        self._ring = self._library.ring_buffer__new(ring.fd, self._on_record, None, None)
        if not self._ring:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"BPF ring {ring.name}")

    def _keep(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0 if len(self._records) < RECORDS_MAX else -errno.EAGAIN  # negative: consumed, now pause

    def drain(self) -> list[bytes]:
        """The records waiting, oldest first, at most RECORDS_MAX."""
        result = self._library.ring_buffer__consume(self._ring)
        if result < 0 and result != -errno.EAGAIN:
            raise OSError(-result, os.strerror(-result), "BPF ring")
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        """Free the reader's memory; the map stays."""
        self._library.ring_buffer__free(self._ring)


class Loaded:
    """What `load` brought into the kernel, held by file descriptors until `close`."""

    def __init__(self, maps: dict[str, Map], programs: dict[str, int]) -> None:
        self.maps = maps
        self.programs = programs
        self._links: list[int] = []
        self._library = _libbpf()

    def attach_raw_tracepoint(self, program: str, tracepoint: str) -> None:
        """Run a program at a tracepoint until `close`. Raises Unavailable if the kernel refuses."""
        link = self._library.bpf_raw_tracepoint_open(tracepoint.encode(), self.programs[program])
        if link < 0:
            raise _refused(f"attaching {program} to {tracepoint}", -link)
        self._links.append(link)

    def link(self, program: str, target: int, where: int) -> int:
        """Run a program at a cgroup (its file descriptor) or a device (its index), beside those of others.

        Returns the link's file descriptor; closing it detaches the program. Raises OSError.
        """
        link: int = self._library.bpf_link_create(self.programs[program], target, where, None)
        if link < 0:
            raise OSError(-link, os.strerror(-link), f"BPF program {program}")
        return link

    def replace(self, name: str, fresh: Map) -> None:
        """Hold another map in the place of one."""
        os.close(self.maps[name].fd)
        self.maps[name] = fresh

    def detach(self) -> None:
        """Let no program run at a tracepoint any more; maps stay readable."""
        while self._links:
            os.close(self._links.pop())

    def close(self) -> None:
        """Detach and unload."""
        self.detach()
        for fd in (*self.programs.values(), *(held.fd for held in self.maps.values())):
            os.close(fd)
        self.programs, self.maps = {}, {}


def load(name: str, *, constants: bytes, entries: Mapping[str, int], skipped: Collection[str] = ()) -> Loaded:
    """Load the object `name` (a file in `OBJECTS`) and verify its programs; none of them runs yet.

    constants: content of its `.rodata`, to the byte. entries: capacity of maps that differs from the C text.
    skipped: programs that are left out.
    Parsing the kernel's type information takes some 11 MB for a moment; all of it is free again on return
    (0.3 MB stay). A child process that hands its file descriptors over would need as much, and itself.
    Raises Unavailable.
    """
    if obstacle := next(obstacles(), None):
        raise obstacle
    library = _libbpf()
    opened = library.bpf_object__open_file(os.fsencode(OBJECTS / name), None)
    if not opened:
        raise _refused(f"opening {name}", ctypes.get_errno())
    try:
        rodata = _map_named(library, opened, ".rodata")
        _checked(
            f"constants of {name}", library.bpf_map__set_initial_value(rodata, constants, len(constants))
        )
        for map_name, count in entries.items():
            sized = library.bpf_map__set_max_entries(_map_named(library, opened, map_name), count)
            _checked(f"size of {map_name}", sized)
        for program, handle in _programs(library, opened):
            library.bpf_program__set_autoload(handle, program not in skipped)
        _checked(f"loading {name}", library.bpf_object__load(opened))
        programs = {
            program: os.dup(library.bpf_program__fd(handle))
            for program, handle in _programs(library, opened)
            if program not in skipped
        }
        return Loaded(_maps(library, opened), programs)
    finally:
        library.bpf_object__close(opened)


def _map_named(library: ctypes.CDLL, opened: int, name: str) -> int:
    handle: int | None = library.bpf_object__find_map_by_name(opened, name.encode())
    if handle is None:
        raise KeyError(f"the object has no map {name}")
    return handle


def _maps(library: ctypes.CDLL, opened: int) -> dict[str, Map]:
    maps = {}
    handle = None
    while handle := library.bpf_object__next_map(opened, handle):
        name = library.bpf_map__name(handle).decode()
        size = library.bpf_map__value_size(handle)
        if library.bpf_map__type(handle) in PER_CPU:
            size = (size + 7) // 8 * 8 * library.libbpf_num_possible_cpus()
        fd = os.dup(library.bpf_map__fd(handle))
        maps[name] = Map(name, fd, library.bpf_map__key_size(handle), size)
    return maps


def _programs(library: ctypes.CDLL, opened: int) -> Iterator[tuple[str, int]]:
    handle = None
    while handle := library.bpf_object__next_program(opened, handle):
        yield library.bpf_program__name(handle).decode(), handle


def _checked(what: str, result: int) -> None:
    if result < 0:
        raise _refused(what, -result)


def _refused(what: str, number: int) -> Unavailable:
    remedy = {
        errno.EPERM: "grant CAP_BPF and CAP_PERFMON; see whether lockdown or a security module forbids bpf()",
        errno.ENOENT: "reinstall the agent: its compiled eBPF object is missing",
        errno.ENOMEM: "free memory, or lower the cache size",
    }.get(number, "report this with `uname -a`")
    return Unavailable(f"{what}: {os.strerror(number)}", remedy=remedy)
