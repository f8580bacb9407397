"""Lines of a file of any size: where to part it, and what lies in one part, a hundred lines at a time.

Takes a seekable binary file, returns byte ranges (`split`) or bounded blocks of numbered lines (`read_blocks`). Lines
end in LF or CR LF; a line belongs to the range in which its first byte lies, so every line is in exactly one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

LINE_LIMIT = 1024 * 1024
"""Bytes that one line may have; of a longer one, no more than this is ever held."""

BLOCK_LINES = 100
"""Lines that one transaction writes."""

BLOCK_BYTES = 1024 * 1024
"""A block ends earlier when its lines have this many bytes together."""

_READ = 1024 * 1024
_SKIP = 64 * 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the file that starts and ends where lines do."""

    start: int
    """Its first byte."""
    end: int
    """The byte behind its last."""
    first_line: int
    """The number of its first line in the file, from 1."""
    lines: int
    """How many lines it has, blank ones counted."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines: what one transaction writes."""

    texts: list[tuple[int, bytes]]
    """Line number and text, without blank lines and line ends; more than `LINE_LIMIT` bytes mean "cut, too long"."""
    blank: int
    """Lines of nothing but white space."""
    end: int
    """The byte behind the last line."""

    @property
    def lines(self) -> int:
        """How many lines it has, blank ones counted."""
        return len(self.texts) + self.blank


def split(file: BinaryIO, parts: int, *, tell: Callable[[int], None] = lambda position: None) -> list[Range]:
    """*parts* ranges of about equal bytes that hold all lines of *file*; fewer when there are fewer lines.

    One pass in blocks of 1 MB, because line numbers need a count of what lies before. A byte order mark at the start is
    left out. *tell* is called with the position after each block, and may raise to stop.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start, first_line = (len(_BOM) if file.read(len(_BOM)) == _BOM else 0), 1
    ranges: list[Range] = []
    for left in range(parts, 0, -1):
        if start >= size:
            break
        target = start + -(-(size - start) // left)  # of what is left, so that one long line costs no later part
        end, lines = _line_start(file, start, target, size, tell)
        ranges.append(Range(start, end, first_line, lines))
        start, first_line = end, first_line + lines
    return ranges


def _line_start(file: BinaryIO, start: int, target: int, size: int, tell: Callable[[int], None]) -> tuple[int, int]:
    """The first start of a line at or behind *target* (or the end), and how many lines begin between *start* and it."""
    file.seek(start)
    position, lines = start, 0
    while position < size:
        before = target - 1 - position  # the byte before the target decides whether a line starts at it
        block = file.read(min(_READ, before) if before > 0 else _READ)
        if not block:
            break
        if before > 0:
            lines += block.count(b"\n")
        elif (found := block.find(b"\n")) >= 0:
            return position + found + 1, lines + 1
        position += len(block)
        tell(position)
    return size, lines + 1  # the last line has no end


def read_blocks(file: BinaryIO, start: int, end: int, first_line: int) -> Iterator[Block]:
    """The lines from *start*, where line *first_line* begins, to *end*, in order.

    Holds one block at a time: at most 100 lines and 2 MB.
    """
    file.seek(start)
    position, number = start, first_line
    while position < end:
        texts: list[tuple[int, bytes]] = []
        blank = held = 0
        while position < end and len(texts) + blank < BLOCK_LINES and held < BLOCK_BYTES:
            line = file.readline(LINE_LIMIT + 2)
            if not line:
                end = position  # the file is shorter than it was
                break
            position += len(line)
            if len(line) > LINE_LIMIT and not line.endswith(b"\n"):
                position += _skip_line(file)
                text = line
            else:
                text = line.strip()
            if text:
                texts.append((number, text))
                held += len(text)
            else:
                blank += 1
            number += 1
        yield Block(texts, blank, position)


def _skip_line(file: BinaryIO) -> int:
    """Leaves the rest of the line behind; returns how many bytes that was."""
    skipped = 0
    while part := file.readline(_SKIP):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped
