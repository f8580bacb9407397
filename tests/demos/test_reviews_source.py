"""Looking at an input before anything is written, and bringing it to disk whole or not at all."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobrunner.demos.reviews.making import made_lines
from jobrunner.demos.reviews.source import examine, made, place_for, unpack
from jobrunner.errors import InputError

LINES = b'{"review_id": "1"}\n{"review_id": "2"}\n' * 500


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a web server that answers every request with *body*; returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(body: bytes, *, status: int = 200, announced: int | None = None) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if announced is None else announced))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/reviews.jsonl"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def file(folder: Path, content: bytes) -> Path:
    path = folder / "reviews.jsonl"
    path.write_bytes(content)
    return path


def test_a_plain_file_is_read_where_it_is(tmp_path: Path) -> None:
    path = file(tmp_path, LINES)

    source = examine(str(path))

    assert source.plain and place_for(source) == path
    assert source.location == str(path)


def test_a_file_that_changed_has_another_fingerprint(tmp_path: Path) -> None:
    path = file(tmp_path, LINES)
    before = examine(str(path)).fingerprint
    os.utime(path, ns=(1, 1))

    assert before != examine(str(path)).fingerprint


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (gzip.compress(b""), "it is empty"),
        (b"\x7fELF\2\1\1" + bytes(500), "it is binary"),
        (bytes(range(256)) * 300, "it is binary"),
        ('{"a": 1}\n'.encode("utf-16"), "it is binary"),
        (gzip.compress(b"\x89PNG\r\n\x1a\n" + bytes(100)), "it is binary"),
        (gzip.compress(LINES)[:20], "it ends too early"),
        (b"\x1f\x8bnot gzip at all" * 10, "damaged"),
    ],
)
def test_an_unusable_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, problem: str) -> None:
    path = file(tmp_path, content)

    with pytest.raises(InputError) as raised:
        examine(str(path))

    assert problem in str(raised.value) and str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("location", "problem"),
    [("missing.jsonl", "there is no such file"), (".", "it is a directory"), ("/dev/null", "it is not a regular file")],
)
def test_what_is_no_file_is_refused(location: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        examine(location)


def test_bad_lines_at_the_start_do_not_make_a_file_binary(tmp_path: Path) -> None:
    """They are for the import to list, not for the door to refuse."""
    for start in (b"a NUL \0\n", b"caf\xe9\n", b"x" * 70_000):
        examine(str(file(tmp_path, start + LINES)))
    examine(str(file(tmp_path, LINES[: 64 * 1024 - 1].ljust(64 * 1024 - 1) + "é".encode())))


def test_gzip_is_unpacked_whole(tmp_path: Path) -> None:
    source = examine(str(file(tmp_path, gzip.compress(LINES))))
    target = tmp_path / "lines"

    unpack(source.location, target)

    assert not source.plain
    assert target.read_bytes() == LINES


def test_an_address_is_fetched_plain_or_packed(tmp_path: Path, serve: Callable[..., str]) -> None:
    for name, body in (("plain", LINES), ("packed", gzip.compress(LINES))):
        source = examine(serve(body))
        unpack(source.location, tmp_path / name)
        assert (tmp_path / name).read_bytes() == LINES
        assert not source.plain


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, serve: Callable[..., str]) -> None:
    """Half of a file must never be imported as if it were the whole."""
    for body in (LINES, gzip.compress(os.urandom(4096).hex().encode())[:-50]):
        address = serve(body, announced=len(body) + 1000 if body is LINES else None)

        with pytest.raises(InputError, match="it ends too early"):
            unpack(address, tmp_path / "lines")

        assert list(tmp_path.iterdir()) == []


def test_an_address_that_does_not_answer_well_is_refused(serve: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="the server answers 404"):
        examine(serve(b"", status=404))
    with pytest.raises(InputError, match="refused"):
        examine("http://127.0.0.1:1/reviews.jsonl")
    with pytest.raises(InputError, match="check the address"):
        examine("http://[bad")


def test_unpacking_clears_what_a_killed_process_left_and_keeps_what_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "lines"
    (tmp_path / "lines.0123").write_bytes(b"half")

    unpack(made(100, 1).location, target)
    unpack("made:999:9", target)

    assert b"".join(line.text + b"\n" for line in made_lines(100, 1)) == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


def test_whoever_is_told_may_stop_the_unpacking(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise LookupError(done)

    with pytest.raises(LookupError):
        unpack(made(5000, 1).location, tmp_path / "lines", tell=stop)

    assert list(tmp_path.iterdir()) == []
