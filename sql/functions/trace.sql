-- The tree that one fact caused: jobs, what their handlers enqueued, and so on, depth first. _ref is a subject (order:42) or
-- job:ID, which is traced from its root. At most _limit rows.
create or replace function jobrunner.trace(_ref text, _limit integer default 10000)
returns table (
    depth integer, kind text, id bigint, cause bigint, task text, queue text, state text, blocked_on text, attempt integer,
    failures integer, created_at timestamptz, started_at timestamptz, finished_at timestamptz, reason text, error text, subject text, path bigint[]
)
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with recursive up as (
        select r.id, l.cause_job_id, 0 as steps
        from (select case when _ref ~ '^job:[0-9]{1,18}$' then substr(_ref, 5)::bigint end as id) r
        left join jobrunner.job_links l on l.job_id = r.id
        where r.id is not null
        union all
        select l.job_id, l.cause_job_id, up.steps + 1
        from up
        join jobrunner.job_links l on l.job_id = up.cause_job_id
        where up.steps < 1000
    ),
    -- A cause without links of its own ends the walk: it is the root.
    top as (
        select coalesce(up.cause_job_id, up.id) as id from up order by up.steps desc limit 1
    ),
    roots as (
        select t.id from top t
        union
        select l.job_id
        from jobrunner.job_links l
        where l.subject = _ref
            and not exists (select from jobrunner.job_links c where c.job_id = l.cause_job_id and c.subject = _ref)
    ),
    tree as (
        select r.id, null::bigint as cause, 0 as depth, array[r.id] as path
        from roots r
        union all
        select l.job_id, t.id, t.depth + 1, t.path || l.job_id
        from tree t
        join jobrunner.job_links l on l.cause_job_id = t.id
        where t.depth < 100
            and l.job_id <> all (t.path)
    ),
    named as (
        select t.* from tree t order by t.path limit _limit
    )
    select
        n.depth, 'job', n.id, n.cause, v.task, v.queue, coalesce(v.state, 'dropped'), v.blocked_on, v.attempt, v.failures,
        v.created_at, v.started_at, v.finished_at, v.reason, v.error, l.subject, n.path
    from named n
    left join jobrunner.job_links l on l.job_id = n.id
    left join lateral (
        select j.task, j.queue, j.state, j.blocked_on, j.attempt, j.failures, j.created_at, j.started_at, j.finished_at, j.reason, j.error
        from jobrunner.jobs j
        where j.id = n.id
        union all
        select f.task, f.queue, f.state, null, f.attempt, f.failures, f.created_at, f.started_at, f.finished_at, f.reason, f.error
        from jobrunner.finished_jobs f
        where f.id = n.id
        limit 1
    ) v on true
    order by n.path;
end
$$;
