"""Whose turn it is on a folder: makes it, locks it, and clears away what a killed owner left there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import tempfile
import time
from pathlib import Path

from jobrunner.errors import EmbeddedError

LOCK = "jobrunner.lock"
WRITABLE = "choose a directory that you may write to"


def make_scratch() -> Path:
    """A new folder for what ends with the server: the socket, whose path has to be short, and temporary data."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="jobrunner-", dir=usual if len(usual) < 60 else "/tmp"))  # noqa: S108


def open_home(directory: Path) -> Path:
    """*directory*, made where it is missing; refused when it holds what jobrunner did not make."""
    home = Path(directory).expanduser().resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in home.iterdir()}
    except OSError as error:
        raise EmbeddedError(f"cannot use {home} ({error.strerror})", WRITABLE) from error
    if names and LOCK not in names:
        what = "is the data directory of another PostgreSQL" if "PG_VERSION" in names else "is not empty"
        raise EmbeddedError(f"{home} {what} and was not made by jobrunner", "choose a new or an empty directory")
    return home


def take(home: Path) -> int:
    """The lock of *home*: a file descriptor, which is also given to the watch."""
    try:
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EmbeddedError(f"cannot write to {home} ({error.strerror})", WRITABLE) from error
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, dsn, *_ = [*os.pread(lock, 4096, 0).decode().splitlines(), "", ""]
            # A moment for an owner that is dying just now; then its watch may take a while to stop the server.
            if time.monotonic() - began > (0.5 if holder and _is_alive(int(holder)) else 90):
                os.close(lock)
                remedy = f"connect to it with --dsn '{dsn}', or stop it first" if dsn else "stop it first"
                raise EmbeddedError(f"{home} is in use by process {holder}", remedy) from None
            time.sleep(0.02)
        else:
            write(lock, f"{os.getpid()}\n")
            return lock


def write(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode(), 0)


def check_major(data: Path, major: int) -> None:
    version = data / "PG_VERSION"
    found = version.read_text().strip() if version.exists() else str(major)
    if found != str(major):
        problem = f"{data.parent} holds data of PostgreSQL {found}, not {major}"
        raise EmbeddedError(problem, "choose another directory, or dump and restore the data")


def pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def clear_the_way(data: Path) -> None:
    """Stops a postmaster that outlived owner and watch; makes PostgreSQL see a left-over postmaster.pid as stale."""
    import psutil  # comes with the wheel, so only here is it certain to be installed

    lines = pid_file(data)
    if not lines:
        return
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(int(lines[0]))
        if process.name() == "postgres" and data.samefile(process.cwd()):
            process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 60
            while pid_file(data) and _is_alive(process.pid) and time.monotonic() < deadline:
                time.sleep(0.02)
    if lines := pid_file(data):
        # The pid may be a stranger's by now, or a zombie's, and PostgreSQL would give way to it. Its parent's pid it
        # takes for stale, and still checks the shared memory, which deleting the file would prevent (CreateLockFile).
        (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:], ""]))


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
