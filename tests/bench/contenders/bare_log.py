"""bare_log: the moves of the sequencer in one statement of plain SQL on equal tables: what the database allows.

No functions of ours, no subscriptions to look up, one session that is alone: the order is that of the outbox's ids.
"""

from __future__ import annotations

from time import perf_counter

from psycopg import sql

from jobrunner.worker.sequencer import BATCH
from tests.bench.server import Database

TABLES = {"outbox": "outbox", "log": "events", "jobs": "jobs", "job_links": "job_links"}
"""Each of ours, and the one of the product that it is like."""

MOVE = """
with gone as (
    delete from bare.outbox o
    where o.id = any (array(select x.id from bare.outbox x order by x.id limit %(n)s))
    returning o.*
),
numbered as materialized (
    select %(head)s + row_number() over (order by g.id) as position, statement_timestamp() as recorded_at, g.*
    from gone g
),
logged as (
    insert into bare.log (
        position, recorded_at, xact, occurred_at, event_id, correlation_id, cause_event, cause_job_id, version, type, source,
        subject, key, data, headers
    )
    select
        n.position, n.recorded_at, n.xact, n.occurred_at, n.event_id, n.correlation_id, n.cause_event, n.cause_job_id,
        n.version, n.type, n.source, n.subject, n.key, n.data, n.headers
    from numbered n
),
chosen as materialized (
    select nextval('bare.ids') as id, d.*
    from (
        select n.position, n.recorded_at, n.event_id, n.correlation_id, n.version, s.name
        from numbered n
        cross join unnest(%(subscriptions)s::text[]) s (name)
        order by n.position, s.name
    ) d
),
written as (
    insert into bare.jobs (id, seq, queue, task, version, args)
    overriding system value
    select
        c.id, nextval('bare.stamps'), 'events', c.name, c.version,
        jsonb_build_object('position', c.position, 'recorded_at', c.recorded_at)
    from chosen c
),
linked as (
    insert into bare.job_links (job_id, correlation_id, cause_event)
    select c.id, coalesce(c.correlation_id, c.event_id), c.event_id
    from chosen c
)
select count(*) from numbered
"""


def move(database: Database, events: int, subscriptions: int) -> float:
    """Takes the events that wait in the product's outbox; the seconds from the first batch to the end of the last."""
    names = [f"bench.s{number}" for number in range(subscriptions)]
    with database.connect() as conn:
        conn.execute("create schema bare")
        for name, like in TABLES.items():
            made = {"name": sql.Identifier(name), "like": sql.Identifier(like)}
            conn.execute(sql.SQL("create table bare.{name} (like jobrunner.{like} including all)").format(**made))
            found = conn.execute("select reloptions from pg_class where oid = ('jobrunner.' || %s)::regclass", [like])
            for option in (found.fetchone() or [None])[0] or ():
                conn.execute(sql.SQL("alter table bare.{name} set ({option})").format(option=sql.SQL(option), **made))
        conn.execute("create sequence bare.ids")
        conn.execute("create sequence bare.stamps")
        conn.execute("insert into bare.outbox select * from jobrunner.outbox order by id")
    database.settle_down()
    with database.connect() as conn:
        conn.execute("set enable_seqscan = off")  # the product's functions have their plan nailed down as well
        conn.execute("set jit = off")
        moved, began = 0, perf_counter()
        while moved < events:
            row = conn.execute(MOVE, {"n": BATCH, "head": moved, "subscriptions": names}).fetchone()
            if row is None or not row[0]:
                raise RuntimeError(f"only {moved} of {events} events were moved")
            moved += row[0]
        took = perf_counter() - began
    database.expect("bare.log", events)
    database.expect("bare.jobs", events * subscriptions)
    return took
