"""FlatBuffers read without trust: every offset, size and count is checked before it is followed.

The `flatbuffers` package's own table reader believes its input (a negative position would read from the
end); this one stands on its packers only. It knows no schema: that is in `rtos`. Depth is bounded by the
schema, since a caller walks down fields by name; the number of tables and the amount of text are bounded
here, because a hostile buffer may name one table a hundred thousand times.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from flatbuffers import packer

from vedette.wire.message import MAX_MESSAGE_BYTES, MessageError

MAX_THINGS = 65_536
"""Tables and structures of one message, each time it is named. 262,144 bytes hold at most 32,768 that are
named once: each takes eight bytes, a table for the reference to it and for that to its layout."""

MAX_TEXT = 4 * MAX_MESSAGE_BYTES
"""Bytes of text of one message, each time it is named: an encoder may store equal texts once."""

_VTABLE_HEAD = 2 * packer.voffset.size
"""Two sizes stand before the fields' offsets: of the layout and of the table."""


class Buffer:
    """A message's bytes, and what may still be read of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._things = MAX_THINGS
        self._text = MAX_TEXT

    def root(self, name: str) -> Table:
        """The outermost table. Raises MessageError."""
        return Table(self, self.follow(0, name), name)

    def number(self, form: Struct, at: int, name: str) -> int:
        """One integer. Raises MessageError if it is not within the message."""
        self.check(at, form.size, name)
        value: int = form.unpack_from(self.data, at)[0]
        return value

    def follow(self, at: int, name: str) -> int:
        """The position that a reference at `at` leads to. Raises MessageError."""
        return at + self.number(packer.uoffset, at, name)

    def check(self, at: int, size: int, name: str) -> None:
        """Raise MessageError unless these bytes are within the message."""
        if at < 0 or at + size > len(self.data):
            raise MessageError(f"{name}: lies beyond the {len(self.data)} bytes of the message")

    def text(self, at: int, name: str) -> str:
        """The text at a position; bytes that are not UTF-8 as \\xNN. Raises MessageError."""
        size = self.number(packer.uoffset, at, name)
        start = at + packer.uoffset.size
        self.check(start, size, name)
        self._text -= size
        if self._text < 0:
            raise MessageError(f"{name}: the message repeats more than {MAX_TEXT} bytes of text")
        return self.data[start : start + size].decode(errors="backslashreplace")

    def count(self, name: str) -> None:
        """Raise MessageError if there are too many."""
        self._things -= 1
        if self._things < 0:
            raise MessageError(f"{name}: the message repeats more than {MAX_THINGS} tables and structures")


class Table:
    """One table. Fields are asked for by id; `name` stands in errors. Absent fields are None or empty."""

    def __init__(self, buffer: Buffer, at: int, name: str) -> None:
        buffer.count(name)
        self.name = name
        self._buffer = buffer
        self._at = at
        self._vtable = at - buffer.number(packer.soffset, at, name)
        self._size = buffer.number(packer.voffset, self._vtable, name)
        buffer.check(self._vtable, max(self._size, _VTABLE_HEAD), name)

    def number(self, field: int, name: str, form: Struct, default: int = 0) -> int:
        """A scalar, or its default."""
        at = self._position(field)
        return default if at is None else self._buffer.number(form, at, self._path(name))

    def text(self, field: int, name: str) -> str:
        """A text; empty if absent."""
        at = self._target(field, name)
        return "" if at is None else self._buffer.text(at, self._path(name))

    def struct(self, field: int, name: str, size: int) -> bytes:
        """The bytes of a required structure, which stands in the table itself."""
        at = self._required(self._position(field), name)
        self._buffer.check(at, size, self._path(name))
        return self._buffer.data[at : at + size]

    def table(self, field: int, name: str) -> Table:
        """A required table below this one."""
        return Table(self._buffer, self._required(self._target(field, name), name), self._path(name))

    def tables(self, field: int, name: str, *, required: bool = False) -> Iterator[Table]:
        """The tables of a vector, each with its place in its name."""
        at, path = self._target(field, name), self._path(name)
        if required:
            self._required(at, name)
        for place, entry in enumerate(self._vector(at, packer.uoffset.size, path)):
            item = f"{path}[{place}]"
            yield Table(self._buffer, self._buffer.follow(entry, item), item)

    def structs(self, field: int, name: str, size: int) -> Iterator[bytes]:
        """The structures of a vector."""
        path = self._path(name)
        for entry in self._vector(self._target(field, name), size, path):
            self._buffer.count(path)
            yield self._buffer.data[entry : entry + size]

    def _vector(self, at: int | None, size: int, path: str) -> range:
        """Positions of a vector's entries."""
        if at is None:
            return range(0)
        count = self._buffer.number(packer.uoffset, at, path)
        start = at + packer.uoffset.size
        self._buffer.check(start, count * size, path)
        return range(start, start + count * size, size)

    def _position(self, field: int) -> int | None:
        """Where a field stands; None if the table has none."""
        slot = _VTABLE_HEAD + field * packer.voffset.size
        if slot + packer.voffset.size > self._size:
            return None
        offset = self._buffer.number(packer.voffset, self._vtable + slot, self.name)
        return self._at + offset if offset else None

    def _target(self, field: int, name: str) -> int | None:
        """Where a field's reference leads to."""
        at = self._position(field)
        return None if at is None else self._buffer.follow(at, self._path(name))

    def _required(self, at: int | None, name: str) -> int:
        if at is None:
            raise MessageError(f"{self._path(name)}: missing")
        return at

    def _path(self, name: str) -> str:
        return f"{self.name}.{name}"
