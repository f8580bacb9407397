"""The oracle: the tables and triggers of a test's own that watch the product, and what must hold of them.

I1 to I8: no loss, no ghost, effects once, only the latest claim ends a job, repeats bounded, nobody stuck, keys one at a time,
everything in one place.
"""

from __future__ import annotations

from typing import LiteralString

ORACLE: LiteralString = """
create table t_sent (n bigint primary key);
create table t_effect (job_id bigint not null, attempt int not null, pid int not null);
create table t_run (id bigint, attempt int, key text, runner_id bigint, claimed_at timestamptz, ended_at timestamptz, ended_as text,
    primary key (id, attempt));

create function t_note() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.state = 'running' then
        insert into public.t_run values (new.id, new.attempt, new.key, new.runner_id, clock_timestamp());
    else
        update public.t_run
        set ended_at = clock_timestamp(), ended_as = case tg_op when 'DELETE' then 'succeeded' else new.state end
        where id = old.id and attempt = old.attempt;
    end if;
    return null;
end $$;
create trigger t_note after update on jobrunner.jobs for each row
    when ((old.state = 'running') <> (new.state = 'running')) execute function t_note();
create trigger t_note_gone after delete on jobrunner.jobs for each row when (old.state = 'running') execute function t_note();
"""

ALWAYS: dict[str, LiteralString] = {
    "I1 I2 I8: what was committed is there once, and nothing else": """
        select n, count(j.n), s.n is not null as sent
        from t_sent s full join (
            select (args ->> 'n')::bigint as n from jobrunner.jobs
            union all select (args ->> 'n')::bigint from jobrunner.finished_jobs
        ) j using (n) group by n, s.n having s.n is null or count(j.n) <> 1""",
    "I3: no effect twice": "select job_id, array_agg(attempt) from t_effect group by job_id having count(*) > 1",
    "I7: one at a time": """
        select key, array_agg(id) from jobrunner.jobs
        where key is not null and state = 'running' group by key having count(*) > 1""",
    "I7: one holder of a key": "select key, array_agg(id) from jobrunner.jobs where holds_key group by key having count(*) > 1",
}
"""Selects nothing, in any snapshot."""

STUCK: LiteralString = """
    select j.id, r.id, now() - r.beat_at from jobrunner.jobs j join jobrunner.runners r on r.id = j.runner_id
    where j.state = 'running' and r.beat_at < now() - r.ttl - interval '6 s'"""
"""I6; not after an outage, when every beat is old for a moment."""

AT_THE_END: dict[str, LiteralString] = {
    "I1: every job has ended": "select id, state, blocked_on, runner_id, attempt from jobrunner.jobs where state <> 'dead'",
    "dead only for a reason": """
        select id, task, reason, crashes, failures, error from jobrunner.jobs
        where state = 'dead'
            and not (reason = 'exhausted' and task = 'faults.poison')
            and not (reason = 'crashed' and crashes = 3)""",
    "poison is dead, and says why": """
        select id, state, error from jobrunner.jobs where task = 'faults.poison' and error not like 'ValueError: a NUL%'
        union all select id, state, error from jobrunner.finished_jobs where task = 'faults.poison'""",
    "a lost claim is not a failure of the job": "select job_id, attempt from jobrunner.attempts where error_type = 'StaleLease'",
    "I3: a success has its effect, of the same attempt": """
        select f.id, f.attempt, e.attempt from (
            select id, attempt from jobrunner.finished_jobs
            where state = 'succeeded' and (task like 'faults.effect%' or args ->> 'inside' = 'true')
        ) f full join t_effect e on e.job_id = f.id and e.attempt = f.attempt where f.id is null or e.job_id is null""",
    "I4: one end is accepted, that of the latest claim": """
        select r.id, r.attempt, f.attempt, array_agg(x.ended_as) from t_run r join jobrunner.finished_jobs f on f.id = r.id
        join t_run x on x.id = r.id group by r.id, r.attempt, f.attempt having r.attempt > f.attempt
        union all
        select id, null, null, array_agg(ended_as) from t_run group by id
        having count(*) filter (where ended_as in ('succeeded', 'dead', 'cancelled')) <> 1""",
    "I7: runs of a key do not overlap": """
        select key, id, attempt from (select key, id, attempt, claimed_at, lag(ended_at) over w as before, lag(id) over w as earlier
        from t_run where key is not null window w as (partition by key order by claimed_at)) r
        where earlier is not null and (before is null or before >= claimed_at)""",
}
"""Selects nothing once all is drained."""

DEADLOCKS: LiteralString = "select deadlocks::int from pg_stat_database where datname = current_database()"

LATE: LiteralString = """
    select true from jobrunner.jobs where state = 'ready' and created_at < now() - interval '1 s' and failures = 0 limit 1"""

LEFT: LiteralString = """
    select row(id, state, blocked_on, task, key, attempt, runner_id, run_at - now(), error)::text from jobrunner.jobs
    where state <> 'dead' limit 10"""

RUNNERS: LiteralString = """
    select row(id, pid, ended, lost_at - started_at, beat_at - started_at, started_at::time)::text
    from jobrunner.runners order by pid, started_at"""

ASKED: LiteralString = """
    select (
        (select count(*) from jobrunner.attempts where outcome in ('failed', 'timeout', 'retried', 'snoozed'))
        - (select count(*) from jobrunner.jobs where state = 'dead' and reason = 'exhausted')
    )::int"""
"""Second starts that a failure asked for."""
