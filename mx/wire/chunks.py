"""``FileChunk`` written by hand: a stream of files is mostly these, and protobuf copies each one thrice.

The bytes are those that protobuf writes: fields in order of their numbers, zero values left out.
"""

from __future__ import annotations

# Field number << 3 | wire type; 0 is a varint, 2 has a length.
_PATH, _DATA, _OFFSET, _TOTAL, _LAST_CHUNK, _LAST_FILE, _COMMIT = (
    bytes([number << 3 | kind]) for number, kind in ((1, 2), (2, 2), (3, 0), (4, 0), (5, 0), (6, 0), (7, 2))
)
_TRUE = b"\x01"


class ChunkWriter:
    """The chunks of one file. ``commit`` goes with its first one only."""

    def __init__(self, path: str, *, total_bytes: int, is_last_file: bool, commit: str = "") -> None:
        name = path.encode()
        self._head = _PATH + _varint(len(name)) + name if name else b""
        self._total = _TOTAL + _varint(total_bytes) if total_bytes else b""
        self._total_bytes = total_bytes
        self._is_last_file = is_last_file
        self._commit = _COMMIT + _varint(len(commit)) + commit.encode() if commit else b""

    def message(self, data: bytes, *, offset: int) -> bytes:
        """A serialized FileChunk: is_last_chunk where it completes the file, is_last_file with it."""
        parts = [self._head]
        if data:
            parts += (_DATA, _varint(len(data)), data)
        if offset:
            parts += (_OFFSET, _varint(offset))
        parts.append(self._total)
        if offset + len(data) == self._total_bytes:
            parts += (_LAST_CHUNK, _TRUE)
            if self._is_last_file:
                parts += (_LAST_FILE, _TRUE)
        parts.append(self._commit)
        self._commit = b""
        return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
