"""FileChunk written by hand is FileChunk as protobuf writes it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mx.wire.chunks import ChunkWriter
from mx.wire.v1 import model


@given(
    path=st.text(st.characters(codec="utf-8"), min_size=1, max_size=300),
    content=st.binary(max_size=600),
    cuts=st.lists(st.integers(0, 600), max_size=4),
    commit=st.sampled_from(["", "c" * 40]),
    is_last_file=st.booleans(),
)
def test_every_chunk_has_the_bytes_of_protobuf(
    path: str, content: bytes, cuts: list[int], commit: str, is_last_file: bool
) -> None:
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[a:b] for a, b in itertools.pairwise(edges)] or [b""]
    writer = ChunkWriter(path, total_bytes=len(content), is_last_file=is_last_file, commit=commit)
    offset = 0
    for index, data in enumerate(pieces):
        is_end = index == len(pieces) - 1
        wanted = model.FileChunk(
            relative_path=path,
            data=data,
            offset=offset,
            total_size=len(content),
            is_last_chunk=is_end,
            is_last_file=is_end and is_last_file,
        )
        if commit and index == 0:
            wanted.commit_hash = commit
        assert writer.message(data, offset=offset) == wanted.SerializeToString()
        offset += len(data)


@given(st.integers(0, 2**64 - 1))
def test_numbers_of_any_size(number: int) -> None:
    written = ChunkWriter("p", total_bytes=number, is_last_file=False).message(
        b"x", offset=max(0, number - 1)
    )
    read = model.FileChunk.FromString(written)
    assert (read.total_size, read.offset) == (number, max(0, number - 1))
