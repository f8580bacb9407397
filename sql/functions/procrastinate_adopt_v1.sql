-- Writes jobs that wait in procrastinate's own tables, in the order of the array: [{source, task, queue, priority, args, key,
-- queueing_lock, due, attempts, deferred_at}]. Returns one row a job: its id here, or by what it was left and writes nothing:
-- refused (a bound of ours, with the sentence), queueing_lock (a job here waits under it), behind (one before it in its lock was left).
-- For `jobrunner adopt procrastinate`, which deletes in the same transaction what was written; may wait for who defers with the
-- same queueing lock right now.
create or replace function jobrunner.procrastinate_adopt_v1(_jobs jsonb, _actor text default session_user)
returns table (source bigint, id bigint, left_by text, problem text)
language plpgsql
set search_path = pg_catalog, jobrunner, pg_temp
as $$
#variable_conflict use_column
declare
    _problems jsonb;
    _taken    jsonb;
    _done     jsonb;
    _written  bigint[];
begin
    select coalesce(jsonb_object_agg(p.source, p.problem) filter (where p.problem is not null), '{}')
    into _problems
    from (
        select
            r.source,
            coalesce(
                case when r.priority not between -32768 and 32767 then 'priority must be between -32768 and 32767' end,
                jobrunner.call_problem(r.task, r.args, r.queue, 1::smallint, 1000, '{}'),
                jobrunner.option_problem(r.due, null, r.key, r.queueing_lock, null, 'start')
            ) as problem
        from jsonb_to_recordset(_jobs) r (
            source bigint, task text, queue text, priority integer, args jsonb, key text, queueing_lock text, due timestamptz
        )
    ) p;

    -- In the order of their names, as everybody takes them.
    select coalesce(jsonb_object_agg(q.source, jobrunner.take_unique_key('procrastinate', q.queueing_lock, 'start')), '{}')
    into _taken
    from (
        select r.source, r.queueing_lock
        from jsonb_to_recordset(_jobs) r (source bigint, queueing_lock text)
        where r.queueing_lock is not null
            and not _problems ? r.source::text
        order by r.queueing_lock collate "C"
    ) q;

    with given as materialized (
        select
            r.*,
            t.id as taken,
            case
                when _problems ? r.source::text then 'refused'
                when t.id < 0 then 'queueing_lock'
            end as left_by
        from rows from (
            jsonb_to_recordset(_jobs) as (
                source bigint, task text, queue text, priority integer, args jsonb, key text, queueing_lock text, due timestamptz,
                attempts integer, deferred_at timestamptz
            )
        ) with ordinality r (source, task, queue, priority, args, key, queueing_lock, due, attempts, deferred_at, n)
        cross join lateral (select (_taken ->> r.source::text)::bigint as id) t
    ),
    judged as materialized (
        select
            g.*,
            coalesce(
                case
                    when g.key is not null
                        and count(g.left_by) over (partition by g.key order by g.n rows between unbounded preceding and 1 preceding) > 0
                    then 'behind'
                end,
                g.left_by
            ) as verdict
        from given g
    ),
    drawn as materialized (
        select
            j.*,
            coalesce(j.taken, nextval('jobrunner.jobs_id_seq')) as id,
            jobrunner.stamp() as seq,
            j.due > clock_timestamp() as later
        from (select * from judged where verdict is null order by n) j
    ),
    written as (
        insert into jobrunner.jobs as w (
            id, seq, state, blocked_on, queue, task, priority, run_at, created_at, attempt, failures, max_attempts, key, unique_until,
            args, headers
        )
        overriding system value
        select
            d.id,
            d.seq,
            case when d.later then 'scheduled' when d.key is not null then 'blocked' else 'ready' end,
            case when d.key is not null and d.later is not true then 'arrival' end,
            d.queue,
            d.task,
            d.priority::smallint,
            coalesce(d.due, d.deferred_at, now()),
            coalesce(d.deferred_at, now()),
            d.attempts,
            least(d.attempts, 1000),
            1000,                                           -- the task's retry strategy decides, not this number
            d.key,
            case when d.queueing_lock is not null then 'start' end,
            d.args,
            jsonb_strip_nulls(jsonb_build_object('procrastinate_id', d.source::text, 'queueing_lock', d.queueing_lock))
        from drawn d
        returning w.id
    )
    select
        coalesce(jsonb_agg(jsonb_build_object('source', j.source, 'id', w.id, 'left_by', j.verdict) order by j.n), '[]'),
        coalesce(array_agg(w.id order by w.id) filter (where w.id is not null), '{}')
    into _done, _written
    from judged j
    left join drawn d using (source)
    left join written w on w.id = d.id;

    delete from jobrunner.unique_keys u
    where u.task = 'procrastinate'
        and u.job_id in (select t.value::bigint from jsonb_each_text(_taken) t)
        and not exists (select from jobrunner.jobs j where j.id = u.job_id);           -- drawn for one that was left after all

    perform jobrunner.wake(array(
        select r.queue
        from jsonb_to_recordset(_jobs) r (queue text, due timestamptz)
        where r.due is null
            or r.due <= now()
        group by r.queue
    ));
    if _written <> '{}' then
        insert into jobrunner.audit (actor, action, target, jobs)
        values (_actor, 'adopt', jobrunner.audit_target(_written), cardinality(_written));
    end if;
    return query
    select r.source, r.id, r.left_by, _problems ->> r.source::text
    from jsonb_to_recordset(_done) r (source bigint, id bigint, left_by text);
end
$$;
