"""Where the lines come from: a file, an address or made rows, gzip or plain; and how they become a plain file.

`examine` looks before anything is written; `unpack` streams into a local file, which an import needs because its chunks
read byte ranges of it.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Protocol, cast

from jobrunner.demos.reviews.making import made_lines
from jobrunner.errors import InputError, without_password

_HEAD = 64 * 1024
_READ = 1024 * 1024
_GZIP = b"\x1f\x8b"
_TIMEOUT = 30  # seconds that a server may be silent
_TAGS = ("ETag", "Last-Modified", "Content-Length")
_MADE = "made:"


class _Stream(Protocol):
    """What a file and an HTTP response have in common."""

    def read(self, size: int, /) -> bytes: ...

    def peek(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Source:
    """An input that was looked at."""

    location: str
    """An absolute path, an http(s) address, or made:ROWS:SEED."""
    fingerprint: str
    """Tells two states of the location apart: size and time of a file, ETag of an address."""
    plain: bool
    """Its lines can be read where they are; otherwise `unpack` brings them to a file first."""

    @property
    def name(self) -> str:
        """The location as it may be shown: without a password."""
        return shown(self.location)


def shown(location: str) -> str:
    """*location* for people."""
    if is_made(location):
        rows, seed = _made(location)
        return f"{rows:,} made rows (seed {seed})"
    return without_password(location)


def is_made(location: str) -> bool:
    """Whether *location* is not a place but rows to make."""
    return location.startswith(_MADE)


def made(rows: int, seed: int) -> Source:
    """*rows* made reviews."""
    return Source(f"{_MADE}{rows}:{seed}", "", plain=False)


def examine(location: str) -> Source:
    """The source at *location*, a path or an http(s) address, when it can be read and is not empty or binary.

    Reads its first 64 kB.

    Raises:
        InputError: what is wrong with it and what to do.
    """
    if not _is_address(location):
        if "://" in location:
            raise InputError(shown(location), "only http and https addresses can be fetched; save it to a file first")
        location = str(_regular_file(location))
    with _open(location) as (file, fingerprint):
        packed = _is_packed(file)
        head = _unpacked(file).read(_HEAD)
    if not head:
        raise InputError(shown(location), "it is empty; name a file of JSON lines")
    if _is_binary(head):
        raise InputError(shown(location), "it is binary; name a file of JSON lines, plain or gzip")
    return Source(location, fingerprint, plain=not packed and not _is_address(location))


def place_for(source: Source, folder: Path | None = None) -> Path:
    """Where the plain lines of *source* are, or a new name for them in *folder* when it has to be unpacked."""
    if source.plain:
        return Path(source.location)
    return (folder or Path(tempfile.gettempdir())) / f"jobrunner-reviews-{uuid.uuid4().hex}.jsonl"


def unpack(location: str, path: Path, *, tell: Callable[[int], None] = lambda done: None) -> None:
    """Brings the lines of *location* to *path* as plain text; does nothing when they are there.

    They appear at once and complete (written beside, then renamed), in constant memory. *tell* is called with the bytes
    written so far (with rows, when they are made), and may raise to stop.

    Raises:
        InputError: it cannot be read, or ends early; or there is no room for it.
    """
    if path.exists():
        return
    for left in path.parent.glob(
        f"{path.name}.*"
    ):  # of a process that was killed, or that froze and will fail to rename
        left.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("xb") as target:
            part.chmod(0o600)
            for block, done in _blocks(location):
                target.write(block)
                tell(done)
        part.rename(path)
    except OSError as error:
        raise InputError(
            shown(location), f"writing it to {path.parent} failed: {error.strerror}; make room there"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _blocks(location: str) -> Iterator[tuple[bytes, int]]:
    """The plain lines in pieces, each with how far it leads."""
    done = 0
    if is_made(location):
        lines_made = made_lines(*_made(location))
        while some := [line.text for line in islice(lines_made, 1000)]:
            done += len(some)
            yield b"\n".join([*some, b""]), done
        return
    with _open(location) as (file, _):
        lines = _unpacked(file)
        while block := lines.read(_READ):
            done += len(block)
            yield block, done
        if getattr(file, "length", None):  # what an HTTP response still owes; its read() says nothing of it
            raise EOFError


def _made(location: str) -> tuple[int, int]:
    rows, seed = location.removeprefix(_MADE).split(":")
    return int(rows), int(seed)


def _is_address(location: str) -> bool:
    return location.lower().startswith(("http://", "https://"))


def _regular_file(location: str) -> Path:
    path = Path(location).expanduser().resolve()
    if path.is_dir():
        raise InputError(location, "it is a directory; name a file in it")
    if not path.exists():
        raise InputError(location, "there is no such file; check the path")
    if not path.is_file():
        raise InputError(location, "it is not a regular file; save it to one first, because it is read in parts")
    return path


@contextmanager
def _open(location: str) -> Iterator[tuple[_Stream, str]]:
    """A stream of *location* and its fingerprint; every way in which reading fails becomes an InputError."""
    name = shown(location)
    try:
        if _is_address(location):
            with urllib.request.urlopen(location, timeout=_TIMEOUT) as response:  # noqa: S310 (http and https only)
                yield response, " ".join(response.headers.get(tag, "") for tag in _TAGS)
        else:
            with Path(location).open("rb") as file:
                about = os.fstat(file.fileno())
                yield file, f"{about.st_size} {about.st_mtime_ns}"
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(name, f"the server answers {error.code} {error.reason}; check the address") from None
    except urllib.error.URLError as error:
        raise InputError(name, f"{error.reason}; check the address and the network") from None
    except (EOFError, http.client.IncompleteRead):
        raise InputError(name, "it ends too early; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(name, f"its gzip data is damaged ({error}); fetch it again") from None
    except (http.client.HTTPException, ValueError) as error:
        raise InputError(name, f"{error!s}; check the address") from None
    except OSError as error:
        raise InputError(name, f"{error.strerror or error}; check the path and the permissions") from None


def _unpacked(file: _Stream) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=cast("IO[bytes]", file)) if _is_packed(file) else file)


def _is_packed(file: _Stream) -> bool:
    return file.peek(2)[:2] == _GZIP


def _is_binary(head: bytes) -> bool:
    """NUL or bytes that are no text, and not one JSON object among the lines: lines may be bad without being binary."""
    try:
        if "\0" not in head.decode():
            return False
    except UnicodeDecodeError as error:
        if error.end >= len(head) - 3 and b"\0" not in head:  # only a character cut at the end of the head
            return False
    return not any(_is_object(line) for line in head.split(b"\n"))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode()), dict)  # given bytes, json would take UTF-16 too
    except (ValueError, RecursionError):
        return False
