"""Promises 5 and 6 while runners are killed: each committed event once for each subscription, in order where it was asked for."""

from __future__ import annotations

import time
from typing import LiteralString

import pytest

from tests.faults.event_program import Fact, app
from tests.faults.rig import SIZE, Rig, pause
from tests.support import wait_until

pytestmark = pytest.mark.faults

SECONDS = 5 * SIZE
RUNNERS = 3
KEYS = 5

TABLES: LiteralString = """
create table t_fact (n bigint primary key, who text not null);
create table t_got (id bigint generated always as identity, subscription text, n bigint, who text, pid int);
"""
ONCE: LiteralString = """
select s.name, f.n, count(g.n)
from t_fact f
cross join (values ('facts.ordered'), ('facts.unordered'), ('facts.stream')) s (name)
left join t_got g on g.subscription = s.name and g.n = f.n
group by 1, 2
having count(g.n) <> 1
union all
select g.subscription, g.n, -1 from t_got g where not exists (select from t_fact f where f.n = g.n)"""
LOGGED: LiteralString = """
select coalesce(f.n, (e.data ->> 'n')::bigint), f.n is null as never_committed
from t_fact f
full join jobrunner.events e on (e.data ->> 'n')::bigint = f.n and e.type = 'fact.noted'
where f.n is null and e.type = 'fact.noted' or e.position is null"""
DENSE: LiteralString = "select count(*) - max(position) + min(position) - 1 from jobrunner.events"
ORDER: LiteralString = """
select g.subscription, g.who, g.n
from (select *, lag(n) over (partition by subscription, who order by id) as before from t_got) g
where g.subscription in ('facts.ordered', 'facts.stream') and g.before > g.n"""
LEFT: LiteralString = """
select count(*) from jobrunner.jobs where state <> 'dead' union all select count(*) from jobrunner.outbox"""


def test_events_arrive_once_and_in_order_while_runners_are_killed(rig: Rig) -> None:
    program = "tests.faults.event_program:app"
    with rig.connect() as conn:
        conn.execute(TABLES)
        runners = [rig.spawn(ready=False, program=program) for _ in range(RUNNERS)]
        number, began, next_kill = 0, time.monotonic(), 1.0
        while time.monotonic() - began < SECONDS:
            facts = [
                Fact(who=f"k{rig.dice.randrange(KEYS)}", n=(number := number + 1))
                for _ in range(rig.dice.randint(1, 8))
            ]
            undo = rig.dice.random() < 0.15
            with conn.transaction(force_rollback=undo):
                conn.cursor().executemany("insert into t_fact values (%s, %s)", [[fact.n, fact.who] for fact in facts])
                app.publish_many(conn, facts)
            rig.did["rolled back" if undo else "published"] += len(facts)
            if time.monotonic() - began > next_kill:
                victim = rig.dice.choice(runners)
                victim.kill()
                runners[runners.index(victim)] = rig.spawn(ready=False, program=program)
                rig.did["kills"] += 1
                next_kill += 0.7
            pause(0.004)

    rig.wait_ready(*runners)
    wait_until(lambda: sum(rig.column(LEFT)) == 0, 40, "the end of every delivery")

    assert rig.did["kills"] >= SECONDS / 2
    assert rig.column(LOGGED) == [], "the log has what was committed, and nothing else"
    assert rig.value(DENSE) == 0, "positions have no gap"
    with rig.connect() as conn:
        assert conn.execute(ONCE).fetchmany(5) == []
        assert conn.execute(ORDER).fetchmany(5) == []
    rig.check_logs()
