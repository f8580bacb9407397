"""The key protocol under eight sessions at once: publishers, a bulk inserter, workers, a person, and an observer.

Threads, because the concurrency that matters is that of PostgreSQL's sessions; a crash is a claim that nobody ends.
A trigger of the test's own writes down each run as the server saw it, so no client's memory is believed.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors

from tests.store import calls
from tests.store.calls import Claim, Connection

TASK = calls.TASK

LEDGER = """
create table ledger (key text collate "C" primary key, n int not null);
insert into ledger select 'o' || n, 0 from generate_series(0, 3) n;
create table runs (
    id bigint, attempt int, key text, n int, started_at timestamptz, ended_at timestamptz, primary key (id, attempt)
);

create function note() returns trigger language plpgsql as $$
begin
    if old.state <> 'running' then
        insert into public.runs values (new.id, new.attempt, new.key, (new.args ->> 'n')::int, clock_timestamp());
    else
        update public.runs set ended_at = clock_timestamp() where id = old.id and attempt = old.attempt;
    end if;
    return null;
end $$;
create trigger note after update on jobrunner.jobs for each row
    when ((old.state = 'running') <> (new.state = 'running')) execute function note();
"""

ALWAYS = {
    "two jobs hold one key": "select key from jobrunner.jobs where holds_key group by key having count(*) > 1",
    "a key is waited for and nobody holds it": """
        select w.key from jobrunner.jobs w where w.blocked_on = 'key'
        and not exists (select from jobrunner.jobs h where h.key = w.key and h.holds_key)""",
    "a job is live and finished": "select id from jobrunner.jobs join jobrunner.finished_jobs using (id)",
    "a dead job holds its key": "select id from jobrunner.jobs where state = 'dead' and holds_key",
}
"""Selects nothing, in any snapshot."""

AT_THE_END = {
    "runs of one key overlap": """
        select key
        from (select key, started_at, lag(ended_at) over w as before, lag(started_at) over w as earlier from runs
        window w as (partition by key order by started_at)) r
        where earlier is not null and (before is null or before >= started_at)""",
    "serialised writers of a key started out of order": """
        select key, n from (select key, n, lag(n) over (partition by key order by first) as before
        from (select key, n, min(started_at) as first from runs where key like 'o%' group by key, n) r) r where before > n""",
    "a job is missing": """
        select l.key, l.n, count(f.id) from ledger l left join jobrunner.finished_jobs f on f.key = l.key
        group by l.key having l.n <> count(f.id)""",
    "a job is left": "select id, key, state, blocked_on, holds_key, reason from jobrunner.jobs limit 20",
}
"""Selects nothing once all is drained."""


@dataclass
class Hammer:
    """What the actors share; `found` has what went wrong, `did` what was done."""

    dsn: str
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    """No new jobs and no mischief; workers go on until `over`."""
    over: threading.Event = field(default_factory=threading.Event)
    did: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def connect(self, **options: Any) -> Connection:
        conn: Connection = psycopg.connect(self.dsn, prepare_threshold=None, **options)
        return conn


def run(dsn: str, seconds: float, seed: int = 1, *, mutate: Callable[[Connection], None] | None = None) -> Hammer:
    """Hammers for *seconds*, drains, and returns what was found; ends at the first violation."""
    hammer = Hammer(dsn, seed)
    with hammer.connect(autocommit=True) as conn:
        conn.execute(LEDGER)
        if mutate:
            mutate(conn)
        deadlocks = _deadlocks(conn)
        actors = [_publisher] * 3 + [_bulk] + [_worker] * 3 + [_person]
        threads = [
            threading.Thread(target=_guarded, args=(hammer, actor, number), name=f"{actor.__name__}{number}")
            for number, actor in enumerate(actors, 1)
        ]
        for thread in threads:
            thread.start()
        try:
            ends = time.monotonic() + seconds
            while time.monotonic() < ends and not hammer.found:
                _look(conn, hammer, ALWAYS)
                hammer.did["looks"] += 1
                hammer.over.wait(0.1)
            hammer.stop.set()
            for thread in threads[:4]:
                thread.join()
            ends = time.monotonic() + 15
            while (
                not hammer.found
                and time.monotonic() < ends
                and calls.value(conn, "select exists (select from jobrunner.jobs)")
            ):
                hammer.over.wait(0.05)
            if not hammer.found:
                _look(conn, hammer, ALWAYS | AT_THE_END)
        finally:
            hammer.stop.set()
            hammer.over.set()
            for thread in threads:
                thread.join()
        conn.execute("select pg_stat_clear_snapshot()")
        if (more := _deadlocks(conn) - deadlocks) > 0:
            hammer.found.append(f"{more} deadlocks")
        for outcome, count in conn.execute("select state, count(*) from jobrunner.finished_jobs group by 1").fetchall():
            hammer.did[outcome] = count
    return hammer


def _look(conn: Connection, hammer: Hammer, invariants: dict[str, str]) -> None:
    """All in one snapshot."""
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        for name, query in invariants.items():
            if rows := conn.execute(query).fetchmany(5):
                hammer.found.append(f"{name}: {rows}")


def _deadlocks(conn: Connection) -> int:
    return int(calls.value(conn, "select deadlocks from pg_stat_database where datname = current_database()"))


def _guarded(hammer: Hammer, actor: Callable[[Hammer, random.Random, int], None], number: int) -> None:
    try:
        actor(hammer, random.Random(hammer.seed * 100 + number), number)
    except Exception as error:  # whatever it is, it is a finding
        hammer.found.append(f"{actor.__name__}: {error!r}")


def _publisher(hammer: Hammer, dice: random.Random, number: int) -> None:
    """Domain transactions: serialised keys (o), crowded keys (u), some of them unique, many keys (w), open for up to 30 ms."""
    with hammer.connect() as conn:
        while not hammer.stop.is_set():
            try:
                with conn.transaction():
                    if dice.random() < 0.15:
                        conn.execute("set transaction isolation level repeatable read")
                    for key in sorted({f"o{dice.randrange(4)}" for _ in range(dice.randint(1, 2))}):
                        n = calls.value(conn, "update ledger set n = n + 1 where key = %s returning n", key)
                        calls.enqueue(conn, args={"n": n}, key=key)
                    for _ in range(dice.randint(0, 3)):
                        _publish_one(conn, dice)
                        if dice.random() < 0.3:
                            hammer.stop.wait(dice.random() * 0.02)
                    if dice.random() < 0.4:
                        hammer.stop.wait(dice.random() * 0.03)
                    if dice.random() < 0.1:
                        raise psycopg.Rollback
                hammer.did["transactions"] += 1
            except errors.SerializationFailure:  # RR, and the counter moved meanwhile
                hammer.did["serialization failures"] += 1
            hammer.stop.wait(dice.random() * 0.02)


def _publish_one(conn: Connection, dice: random.Random) -> None:
    key = f"u{dice.randrange(3)}" if dice.random() < 0.5 else f"w{dice.randrange(300)}"
    options: dict[str, object] = {"key": key}
    if dice.random() < 0.2:
        options["delay"] = "20 ms"
    if dice.random() < 0.2:
        options["unique_key"] = key  # one a transaction at most could wait for another: no cycle of users' making
        options["unique_until"] = dice.choice(["start", "finish"])
    calls.enqueue(conn, **options)


def _bulk(hammer: Hammer, dice: random.Random, number: int) -> None:
    """Many keys in one statement, in autocommit."""
    with hammer.connect(autocommit=True) as conn:
        while not hammer.stop.is_set():
            calls.enqueue_many(conn, [{"key": f"s{n % 7}"} for n in range(dice.randint(1, 15))])
            hammer.stop.wait(dice.random() * 0.06)


def _worker(hammer: Hammer, dice: random.Random, number: int) -> None:
    """A runner: seats, claims, and ends jobs in every way, or crashes and comes back as a zombie once they were given back."""
    zombies: list[tuple[float, int, list[Claim]]] = []
    me = number * 1_000_000
    with hammer.connect(autocommit=True) as conn:
        calls.register(conn, me)
        while not hammer.over.is_set():
            calm = hammer.stop.is_set()
            conn.execute("select jobrunner.tick_v1(%s, %s, true, null, 0, '-infinity', 100)", [[calls.QUEUE], [0]])
            claims = calls.claim(conn, me, dice.randint(1, 20))
            if not claims:
                hammer.over.wait(0.002)
                continue
            if dice.random() < 0.2:
                hammer.over.wait(dice.random() * 0.005)
            if not calm and dice.random() < 0.05:
                zombies.append((time.monotonic() + dice.random() * 0.2, me, claims))
                calls.lose(conn, me)
                me = calls.register(conn, me + 1)
                continue
            _end(hammer, conn, dice, me, claims, calm)
            for zombie in [z for z in zombies if z[0] < time.monotonic()]:
                if calls.value(conn, "select exists (select from jobrunner.jobs where runner_id = %s)", zombie[1]):
                    continue  # not given back yet: its end would be in order
                zombies.remove(zombie)
                accepted = calls.settle(conn, zombie[1], zombie[2], "succeeded")
                if accepted:
                    hammer.found.append(f"a zombie's end was accepted: {accepted}")
                hammer.did["zombies refused"] += len(zombie[2])


def _end(hammer: Hammer, conn: Connection, dice: random.Random, me: int, claims: Sequence[Claim], calm: bool) -> None:
    ways: dict[str, list[Claim]] = {"succeeded": [], "dead": [], "scheduled": [], "ready": [], "in place": []}
    for claimed in claims:
        throw = 1.0 if calm else dice.random()
        way = "scheduled" if throw < 0.06 else "dead" if throw < 0.12 else "ready" if throw < 0.14 else "succeeded"
        ways["in place" if way == "succeeded" and dice.random() < 0.4 else way].append(claimed)
    for claimed in ways.pop("in place"):
        _end_in_place(hammer, conn, dice, me, claimed)
    for state, left in ways.items():
        more = {"scheduled": {"delay": dice.random() * 0.03, "outcome": "snoozed"}}.get(state, {})
        tries = 0
        while left:
            settled = calls.settle(conn, me, left, state, **more)
            left = [claimed for claimed in left if claimed.id not in settled]
            hammer.did[f"settled {state}"] += len(settled)
            hammer.did["busy"] += len(left)
            tries += 1
            assert tries < 3000, f"cannot settle {left}"
            if left:
                hammer.over.wait(0.001)


def _end_in_place(hammer: Hammer, conn: Connection, dice: random.Random, me: int, claimed: Claim) -> None:
    """`ctx.transaction()` in REPEATABLE READ; 30 % crash before anyone departs the job."""
    with hammer.connect() as own:
        own.execute("set transaction isolation level repeatable read")
        own.execute("select 1 from jobrunner.settings limit 1")
        hammer.over.wait(dice.random() * 0.01)
        assert calls.finish_in_place(own, me, claimed), f"in place refused: {claimed}"
    hammer.did["in place"] += 1
    if dice.random() < 0.7:
        calls.depart(conn, [claimed.id])


def _person(hammer: Hammer, dice: random.Random, number: int) -> None:
    """Cancels what waits, arrives or holds; requeues and discards the dead; and the care of a runner: rescue and sweep."""
    with hammer.connect(autocommit=True) as conn:
        while not hammer.over.is_set():
            hammer.did["lost"] += calls.mark_lost(conn)
            hammer.did["given back"] += calls.give_back(conn, dice.randint(1, 50))
            if not hammer.stop.is_set():
                ids = calls.column(
                    conn,
                    """select id from jobrunner.jobs tablesample system (20)
                       where state <> 'running' and key not like 'o%%' limit %s""",
                    dice.randint(1, 5),
                )
                conn.execute("select jobrunner.op_cancel(%s)", [dice.sample(ids, len(ids))])
            hammer.did["swept"] += calls.sweep(conn)
            # Not at once: what is wrong with a dead job must be there to be seen.
            dead = calls.column(
                conn, "select id from jobrunner.jobs where state = 'dead' and finished_at < now() - interval '0.3 s'"
            )
            conn.execute("select jobrunner.op_requeue(%s)", [dead[::2]])
            conn.execute("select jobrunner.op_discard(%s)", [dead[1::2]])
            hammer.over.wait(0.005)
