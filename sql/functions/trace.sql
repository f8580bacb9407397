-- The tree that one fact caused, depth first: transaction → event → deliveries → jobs → what their handlers enqueued and published,
-- and so on. _ref is a subject (order:42), job:ID or event:UUID; the latter two are traced from their root. At most _limit rows.
-- kind: transaction (id is its number; what was published and enqueued together) | event (id is its position; null while it is in
-- the outbox) | delivery | job (id is the job's). cause is the id of the node above.
--
-- First the nodes, then the tree: whatever has one correlation id is fetched by one index, and only jobs that were linked without one
-- are followed from cause to cause. To probe the log for each of 10,000 jobs would take seconds: it has no index by cause.
create or replace function jobrunner.trace(_ref text, _limit integer default 10000)
returns table (
    depth integer, kind text, id bigint, cause bigint, task text, queue text, state text, blocked_on text, attempt integer,
    failures integer, created_at timestamptz, started_at timestamptz, finished_at timestamptz, reason text, error text, subject text, path bigint[],
    event_id uuid, type text, version smallint, key text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    _seeds     bigint[] := '{}';                 -- jobs that _ref names
    _jobs      bigint[] := '{}';                 -- all that were found
    _new       bigint[];
    _trees     uuid[] := '{}';
    _new_trees uuid[];
    _event     uuid := case when _ref ~* '^event:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then substr(_ref, 7)::uuid end;
    _job       bigint := case when _ref ~ '^job:[0-9]{1,18}$' then substr(_ref, 5)::bigint end;
begin
    if _event is not null then
        select array_agg(coalesce(x.correlation_id, x.event_id))
        into _new_trees
        from (
            select e.event_id, e.correlation_id from jobrunner.events e where e.event_id = _event
            union all
            select o.event_id, o.correlation_id from jobrunner.outbox o where o.event_id = _event
        ) x;
    elsif _job is not null then
        -- Up to where the causes end: without a correlation id the root is known by nothing else.
        with recursive up as (
            select _job as job_id, 0 as steps
            union all
            select l.cause_job_id, up.steps + 1
            from up
            join jobrunner.job_links l on l.job_id = up.job_id
            where l.cause_job_id is not null
                and up.steps < 1000
        )
        select array_agg(distinct up.job_id) into _seeds from up;
        if not exists (
            select from jobrunner.job_links l where l.job_id = any (_seeds)
            union all
            select from jobrunner.job_links l where l.cause_job_id = _job
            union all
            select from jobrunner.jobs j where j.id = _job
            union all
            select from jobrunner.finished_jobs f where f.id = _job
        ) then
            return;
        end if;
    else
        select coalesce(array_agg(l.job_id), '{}')
        into _seeds
        from (select l.job_id from jobrunner.job_links l where l.subject = _ref order by l.job_id limit _limit) l;
        select array_agg(distinct coalesce(x.correlation_id, x.event_id))
        into _new_trees
        from (
            (select e.event_id, e.correlation_id from jobrunner.events e where e.subject = _ref order by e.position limit _limit)
            union all
            (select o.event_id, o.correlation_id from jobrunner.outbox o where o.subject = _ref order by o.id limit _limit)
        ) x;
    end if;

    _new := _seeds;
    _new_trees := coalesce(_new_trees, '{}') || array(select jobrunner.job_correlation(s.id) from unnest(_seeds) s (id));
    while (_new <> '{}' or _new_trees <> '{}') and cardinality(_jobs) < 2 * _limit loop
        _jobs := _jobs || _new;
        _trees := _trees || _new_trees;
        select
            coalesce(array_agg(distinct x.job_id) filter (where not x.is_known), '{}'),
            coalesce(array_agg(distinct x.correlation_id) filter (where x.correlation_id <> all (_trees)), '{}')
        into _new, _new_trees
        from (
            select l.job_id, l.correlation_id, k.id is not null as is_known
            from (
                select c.job_id, c.correlation_id from jobrunner.job_links c where c.cause_job_id = any (_new)
                union
                select t.job_id, t.correlation_id from jobrunner.job_links t where t.correlation_id = any (_new_trees)
                union
                select m.job_id, m.correlation_id from jobrunner.job_links m where m.job_id = any (_new)
            ) l
            left join unnest(_jobs) k (id) on k.id = l.job_id
        ) x;
    end loop;

    return query
    with recursive facts as materialized (
        select e.position, e.event_id, e.type, e.version, e.key, e.subject, e.cause_job_id, e.cause_event, e.xact, e.occurred_at, e.recorded_at
        from jobrunner.events e
        where e.correlation_id = any (_trees)
        union all
        select e.position, e.event_id, e.type, e.version, e.key, e.subject, e.cause_job_id, e.cause_event, e.xact, e.occurred_at, e.recorded_at
        from jobrunner.events e
        where e.event_id = any (_trees)
            and e.correlation_id is null
        union all
        select null, o.event_id, o.type, o.version, o.key, o.subject, o.cause_job_id, o.cause_event, o.xact, o.occurred_at, null
        from jobrunner.outbox o
        where coalesce(o.correlation_id, o.event_id) = any (_trees)
    ),
    calls as materialized (
        select
            i.id, l.cause_job_id, l.cause_event, l.subject, l.xact, v.task, v.queue, coalesce(v.state, 'dropped') as state, v.blocked_on,
            v.attempt, v.failures, v.created_at, v.started_at, v.finished_at, v.reason, v.error, v.key, v.version
        from unnest(_jobs) i (id)
        left join jobrunner.job_links l on l.job_id = i.id
        left join (
            select
                j.id, j.task, j.queue, j.state, j.blocked_on, j.attempt, j.failures, j.created_at, j.started_at, j.finished_at, j.reason,
                j.error, j.key, j.version
            from jobrunner.jobs j
            where j.id = any (_jobs)
            union all
            select
                f.id, f.task, f.queue, f.state, null, f.attempt, f.failures, f.created_at, f.started_at, f.finished_at, f.reason,
                f.error, f.key, f.version
            from jobrunner.finished_jobs f
            where f.id = any (_jobs)
        ) v on v.id = i.id
    ),
    nodes as materialized (
        select
            'event' as kind, f.position as id, 'event ' || f.event_id as self,
            case when f.cause_job_id is not null then 'job ' || f.cause_job_id when f.cause_event is not null then 'event ' || f.cause_event end as above,
            f.xact, null as task, null as queue, case when f.position is null then 'outbox' else 'recorded' end as state, null as blocked_on,
            null::integer as attempt, null::integer as failures, f.occurred_at as created_at, null::timestamptz as started_at,
            f.recorded_at as finished_at, null as reason, null as error, f.subject, f.event_id, f.type, f.version, f.key,
            row_number() over (order by f.position, f.occurred_at) as place
        from facts f
        union all
        select
            case when c.cause_event is not null and c.cause_job_id is null then 'delivery' else 'job' end, c.id, 'job ' || c.id,
            case when c.cause_job_id is not null then 'job ' || c.cause_job_id when c.cause_event is not null then 'event ' || c.cause_event end,
            c.xact, c.task, c.queue, c.state, c.blocked_on, c.attempt, c.failures, c.created_at, c.started_at, c.finished_at, c.reason,
            c.error, c.subject, c.cause_event, null, c.version, c.key,
            (select count(*) from facts) + row_number() over (order by c.id)
        from calls c
    ),
    up as (
        select n.self, n.above, 0 as steps
        from nodes n
        where n.self = coalesce('job ' || _job, 'event ' || _event)
        union all
        select n.self, n.above, up.steps + 1
        from up
        join nodes n on n.self = up.above
        where up.steps < 1000
    ),
    roots as materialized (
        select n.*
        from nodes n
        where n.self = (select up.self from up order by up.steps desc limit 1)
        union
        select n.*
        from nodes n
        left join nodes a on a.self = n.above
        where n.subject = _ref
            and _job is null
            and _event is null
            and a.subject is distinct from _ref
    ),
    writers as materialized (
        select r.xact, min(r.created_at) as created_at, min(r.place) as place
        from roots r
        where r.xact is not null
            and r.above is null
        group by r.xact
        having count(*) > 1 or bool_or(r.kind = 'event')     -- of a call that was enqueued alone it says nothing
    ),
    tree as (
        select
            r.self, case when w.xact is null then 0 else 1 end as depth, w.xact as cause,
            case when w.xact is null then array[r.place] else array[w.place, r.place] end as path
        from roots r
        left join writers w on w.xact = r.xact and r.above is null
        union all
        select n.self, t.depth + 1, a.id, t.path || n.place
        from tree t
        join nodes a on a.self = t.self
        join nodes n on n.above = t.self
        where t.depth < 100
            and n.place <> all (t.path)
    )
    select x.*
    from (
        select
            t.depth, n.kind, n.id, t.cause, n.task, n.queue, n.state, n.blocked_on, n.attempt, n.failures, n.created_at, n.started_at,
            n.finished_at, n.reason, n.error, n.subject, t.path, n.event_id, n.type, n.version, n.key
        from tree t
        join nodes n on n.self = t.self
        union all
        select
            0, 'transaction', w.xact, null, null, null, 'committed', null, null, null, w.created_at, null,
            null, null, null, null, array[w.place], null, null, null, null
        from writers w
    ) x
    order by x.path, x.depth
    limit _limit;
end
$$;
