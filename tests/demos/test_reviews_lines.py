"""Parting a file and reading a part: each line exactly once, with its number, in bounded memory."""

from __future__ import annotations

import io
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from jobrunner.demos.reviews import lines
from jobrunner.demos.reviews.lines import LINE_LIMIT, Range, read_blocks, split

pieces = st.sampled_from([b"\n", b"\r\n", b" ", b"\t", b"a", b"{}", b"\xef\xbb\xbf", b"\0", b"long " * 50]) | st.binary(
    max_size=4
)
files = st.lists(pieces, max_size=400).map(b"".join)


def numbered(data: bytes) -> list[tuple[int, bytes]]:
    """The lines that are not blank, as a reader without any cleverness finds them."""
    text = data.removeprefix(b"\xef\xbb\xbf")
    return [(number, line.strip()) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]


def read(data: bytes, ranges: list[Range]) -> list[tuple[int, bytes]]:
    file = io.BytesIO(data)
    return [
        text
        for part in ranges
        for block in read_blocks(file, part.start, part.end, part.first_line)
        for text in block.texts
    ]


@given(data=files, parts=st.integers(1, 12))
def test_every_line_is_in_exactly_one_part_and_keeps_its_number(data: bytes, parts: int) -> None:
    ranges = split(io.BytesIO(data), parts)

    assert numbered(data) == read(data, ranges)


@given(data=files, parts=st.integers(1, 12))
def test_parts_join_without_a_gap_and_their_counts_agree_with_what_is_read(data: bytes, parts: int) -> None:
    ranges = split(io.BytesIO(data), parts)

    assert len(ranges) <= parts
    assert [part.start for part in ranges[1:]] == [part.end for part in ranges[:-1]]
    assert not ranges or ranges[-1].end == len(data)
    for part in ranges:
        blocks = list(read_blocks(io.BytesIO(data), part.start, part.end, part.first_line))
        assert part.lines == sum(block.lines for block in blocks)
        assert part.end == blocks[-1].end


@given(data=files, stop=st.integers(0, 5))
def test_reading_on_from_a_cursor_gives_what_was_left(data: bytes, stop: int) -> None:
    """What a killed runner had committed is not read again."""
    (part,) = split(io.BytesIO(data), 1) or [Range(0, 0, 1, 0)]
    blocks = list(read_blocks(io.BytesIO(data), part.start, part.end, part.first_line))
    done = blocks[:stop]
    cursor = done[-1].end if done else part.start

    rest = list(read_blocks(io.BytesIO(data), cursor, part.end, part.first_line + sum(block.lines for block in done)))

    assert blocks[stop:] == rest


def test_lines_around_the_read_size_are_counted_right() -> None:
    for length in (lines._READ - 1, lines._READ, lines._READ + 1):
        data = b"x" * length + b"\ny\n" + b"z" * length
        ranges = split(io.BytesIO(data), 3)
        assert sum(part.lines for part in ranges) == 3


def test_a_line_of_five_megabytes_is_one_line_and_is_not_held() -> None:
    file = io.BytesIO(b'{"a":1}\n' + b"x" * 5_000_000 + b'\n{"b":2}')
    size = len(file.getbuffer())
    tracemalloc.start()
    try:
        texts = [text for block in read_blocks(file, 0, size, 1) for text in block.texts]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [texts[0], texts[2]] == [(1, b'{"a":1}'), (3, b'{"b":2}')]
    assert texts[1][0] == 2 and LINE_LIMIT < len(texts[1][1]) < LINE_LIMIT + 10
    assert peak < 4_000_000


def test_a_line_of_exactly_the_limit_is_read_whole() -> None:
    line = b"x" * LINE_LIMIT
    (block, *_) = read_blocks(io.BytesIO(line + b"\r\n"), 0, LINE_LIMIT + 2, 1)

    assert [(1, line)] == block.texts


def test_a_block_has_a_hundred_lines_or_fewer_when_they_are_large() -> None:
    small = b"x\n" * 250
    large = (b"x" * 400_000 + b"\n") * 7

    assert [block.lines for block in read_blocks(io.BytesIO(small), 0, len(small), 1)] == [100, 100, 50]
    assert [block.lines for block in read_blocks(io.BytesIO(large), 0, len(large), 1)] == [3, 3, 1]


def test_an_even_file_gives_eight_parts_of_about_one_size() -> None:
    data = b"".join(b'{"n": %d}\n' % n for n in range(10_000))

    sizes = [part.end - part.start for part in split(io.BytesIO(data), 8)]

    assert len(sizes) == 8
    assert max(sizes) - min(sizes) < 40


def test_a_long_line_takes_nothing_from_the_parts_behind_it() -> None:
    data = b"x" * 100_000 + b"\n" + b"y\n" * 700

    ranges = split(io.BytesIO(data), 8)

    assert [1, *[100] * 7] == [part.lines for part in ranges]
