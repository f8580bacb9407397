"""The floor and its horizon: nothing that commits later lies below it, and a pinned snapshot costs a claim nothing."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.store import calls
from tests.store.calls import TASK, Connection, claim, enqueue, fill, finish, job, register, value
from tests.store.plans import CLAIM, autovacuum_off, touched

pytestmark = pytest.mark.pg16

STAMP_NUMBER_FIRST = """
create or replace function jobrunner.stamp() returns bigint language sql volatile as $$
    select case when nextval('jobrunner.stamp') > 0 and {pause}
        then currval('jobrunner.stamp') + 0 * (pg_current_xact_id()::text::bigint) end
$$
"""


class Ticks:
    """The horizon as a claimer computes it: the stamp of one tick, once nobody older than the id of the NEXT is in progress."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.before: int | None = None
        self.waiting: list[tuple[int, int]] = []
        self.horizon = 0

    def tick(self, *, next_snapshot: bool = True) -> int:
        row = self.conn.execute(
            """select snapshot, stamp, drawn
               from jobrunner.tick_v1(array['default'], array[0::smallint], false, null, 0, '-infinity')"""
        ).fetchone()
        assert row is not None
        xmin = row[0].partition(":")[0]
        stamp = self.before if next_snapshot else row[1]
        if stamp is not None:
            self.waiting.append((stamp, row[2]))
        self.before = row[1]
        while self.waiting and self.waiting[0][1] <= int(xmin):
            self.horizon = self.waiting.pop(0)[0]
        return self.horizon


def test_a_tick_tells_the_stamp_and_the_snapshot_of_one_moment(conn: Connection) -> None:
    ticks = Ticks(conn)
    job_id = enqueue(conn)

    for _ in range(3):
        ticks.tick()

    assert ticks.horizon == job(conn, job_id)["seq"]


def test_the_first_job_of_a_fresh_schema_lies_above_the_first_floor(conn: Connection) -> None:
    ticks = Ticks(conn)
    for _ in range(3):
        ticks.tick()

    assert job(conn, enqueue(conn))["seq"] > ticks.horizon > 0


def test_a_short_sleep_does_not_lower_the_flag_of_a_longer_one(conn: Connection) -> None:
    flags = []
    for asleep in ("1 hour", "1 s", "2 hours"):
        conn.execute(
            "select jobrunner.tick_v1(array['default'], array[0::smallint], true, %s, 0, '-infinity')", [asleep]
        )
        flags.append(
            calls.column(conn, "select last_value from pg_sequences where sequencename ~ '^asleep' order by 1")
        )

    assert flags[0] == flags[1] < flags[2]


def test_the_horizon_waits_for_a_writer_and_then_has_its_jobs_above_the_floor(
    conn: Connection, connect: Connect
) -> None:
    register(conn)
    ticks, slow = Ticks(conn), connect(autocommit=False)
    late = enqueue(slow)
    for _ in range(5):
        enqueue(conn)
        ticks.tick()

    assert ticks.horizon < value(slow, "select seq from jobrunner.jobs where id = %s", late)
    slow.commit()
    assert late in {claimed.id for claimed in claim(conn, floors=[ticks.horizon])}


def test_a_reader_that_pins_a_snapshot_does_not_hold_the_horizon(conn: Connection, connect: Connect) -> None:
    reader = connect(autocommit=False)
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select 1 from jobrunner.jobs")
    ticks = Ticks(conn)
    job_id = enqueue(conn)

    for _ in range(3):
        ticks.tick()

    assert ticks.horizon == job(conn, job_id)["seq"]


def test_a_stamp_takes_its_transaction_id_before_its_number(conn: Connection, connect: Connect) -> None:
    """So whoever has drawn a number is in progress in every snapshot taken after it, until its row can be seen."""
    other = connect(autocommit=False)
    drawn = value(other, "select jobrunner.stamp()")

    row = conn.execute("select pg_current_snapshot()::text, last_value from jobrunner.stamp").fetchone()

    assert row is not None
    xid = value(other, "select pg_current_xact_id_if_assigned()::text")
    assert drawn == row[1]
    assert value(conn, "select not pg_visible_in_snapshot(%s::xid8, %s::pg_snapshot)", xid, row[0])


def test_a_number_drawn_before_the_transaction_id_would_be_below_the_horizon(
    conn: Connection, connect: Connect, background: object, blocked: object
) -> None:
    """The mutant: the writer waits between its number and its id, and the horizon passes it by."""
    register(conn)
    enqueue(conn)  # the first number of a sequence is logged, and that alone would take an id
    latch, writer = connect(), connect()
    latch.execute("select pg_advisory_lock(99)")
    conn.execute(STAMP_NUMBER_FIRST.format(pause="pg_advisory_xact_lock_shared(99) is not null"))
    late = background(enqueue, writer)  # type: ignore[operator]
    blocked(writer)  # type: ignore[operator]
    conn.execute(STAMP_NUMBER_FIRST.format(pause="true"))
    ticks = Ticks(conn)
    for _ in range(3):
        enqueue(conn)
        ticks.tick()
    latch.execute("select pg_advisory_unlock(99)")

    job_id = late.result(10)

    assert job(conn, job_id)["seq"] <= ticks.horizon
    assert job_id not in {claimed.id for claimed in claim(conn, floors=[ticks.horizon])}


def test_the_stamp_of_the_same_sample_would_pass_a_writer_by(conn: Connection, connect: Connect) -> None:
    """Why the stamp pairs with the NEXT snapshot: in one statement the snapshot comes first, and a writer may begin between."""
    sampled, writer = connect(), connect(autocommit=False)
    snapshot = value(sampled, "select pg_current_snapshot()::text")
    enqueue(writer)
    stamp = value(sampled, "select last_value from jobrunner.stamp")

    assert value(writer, "select max(seq) from jobrunner.jobs") <= stamp
    xid = value(writer, "select pg_current_xact_id_if_assigned()::text::bigint")
    assert xid >= int(snapshot.split(":")[1]), "the snapshot knows nothing of it: the pair would say that it is over"


def test_every_way_to_ready_draws_a_new_stamp(conn: Connection) -> None:
    register(conn)

    def newest() -> int:
        return int(value(conn, "select last_value from jobrunner.stamp"))

    job_id = enqueue(conn)
    for change in ("hand back", "retry", "rescue", "requeue", "unpark", "retry now", "turn", "seat"):
        before = newest()
        match change:
            case "hand back":
                calls.settle(conn, 1, claim(conn), "ready")
            case "retry":
                calls.settle(conn, 1, claim(conn), "scheduled")
                calls.promote(conn)
            case "rescue":
                claim(conn)
                calls.lose(conn, 1)
                calls.mark_lost(conn)
                calls.give_back(conn)
                register(conn, 2)
            case "requeue":
                calls.settle(conn, 2, claim(conn, 2), "dead")
                conn.execute("select jobrunner.op_requeue(%s)", [[job_id]])
            case "unpark":
                conn.execute("update jobrunner.jobs set state = 'blocked', blocked_on = 'task'")
                conn.execute("select jobrunner.unpark_v1(array['shop.t'], array[1::smallint], 10)")
            case "retry now":
                calls.settle(conn, 2, claim(conn, 2), "scheduled", delay=60)
                conn.execute("select jobrunner.op_retry_now(%s)", [[job_id]])
            case _:
                calls.settle(conn, 2, claim(conn, 2), "succeeded")
                first, job_id = enqueue(conn, key=change), enqueue(conn, key=change)
                before = newest()
                calls.seat(conn)
                if change == "turn":
                    before = newest()
                    calls.settle(conn, 2, claim(conn, 2), "succeeded")
                else:
                    job_id = first
        assert (job(conn, job_id)["state"], job(conn, job_id)["seq"] > before) == ("ready", True), change


def _claims_beside_a_pin(conn: Connection, connect: Connect, dead: int) -> None:
    autovacuum_off(conn)
    register(conn)
    reader = connect(autocommit=False)
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select 1 from jobrunner.jobs")
    for _ in range(dead // 5000):
        fill(conn, 5000)
        floor = value(conn, "select last_value from jobrunner.stamp")
        conn.execute("delete from jobrunner.jobs where id = any (array(select id from jobrunner.jobs))")
    fill(conn, 100)
    conn.execute("vacuum jobrunner.jobs")

    from_the_floor = touched(conn, CLAIM, [floor], keep=False)
    from_the_start = touched(conn, CLAIM, [0], keep=False)

    assert from_the_floor.entries["jobs_ready"] == 100
    assert from_the_start.entries["jobs_ready"] >= dead, "the dead entries must be there"
    assert from_the_start.blocks - from_the_floor.blocks > dead / 100


def test_beside_a_pinned_snapshot_a_claim_above_the_floor_reads_none_of_the_dead(
    conn: Connection, connect: Connect
) -> None:
    _claims_beside_a_pin(conn, connect, 20_000)


@pytest.mark.slow
def test_beside_a_pinned_snapshot_the_rate_does_not_fall(conn: Connection, connect: Connect) -> None:
    """The product's floor is Python's; the last claimed row stands for it here, with one writer and one claimer."""
    autovacuum_off(conn)
    register(conn)
    reader = connect(autocommit=False)
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select 1 from jobrunner.jobs")
    reads = []
    floor = 0
    for _ in range(20):
        fill(conn, 5000, TASK)
        for _ in range(25):
            claims = claim(conn, n=200, floors=[floor])
            floor = claims[-1].seq
            finish(conn, 1, claims)
        fill(conn, 200)
        reads.append(touched(conn, CLAIM, [floor], keep=False).blocks)
        floor = claim(conn, n=200, floors=[floor])[-1].seq
    assert max(reads) < 1.5 * min(reads), reads
