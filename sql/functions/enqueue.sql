-- Writes one job in the caller's transaction and returns its id; with a unique key that is taken, the id of the job that
-- holds it. Works in every isolation level, in savepoints, and in a transaction that will be prepared (notify => false,
-- or set local jobrunner.notify = off: a transaction that notified cannot be prepared).
-- Takes no lock but the one of a taken unique key. Errors: SQLSTATE JR003 with a sentence; with a unique_key above READ
-- COMMITTED also 40001, when the key was taken or given up after the transaction's snapshot: repeat the transaction.
create or replace function jobrunner.enqueue(
    task           text,
    args           jsonb       default '{}',
    queue          text        default null,
    priority       smallint    default null,
    run_at         timestamptz default null,
    delay          interval    default null,
    key            text        default null,
    unique_key     text        default null,
    subject        text        default null,
    version        smallint    default null,
    max_attempts   integer     default null,
    headers        jsonb       default '{}',
    notify         boolean     default true,
    unique_until   text        default 'start',
    correlation_id uuid        default null,
    cause_job_id   bigint      default null,
    cause_event    uuid        default null,
    parent_id      bigint      default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
#variable_conflict use_variable
declare
    _known   jobrunner.tasks;
    _due     timestamptz := coalesce(run_at, now());
    _later   boolean;
    _id      bigint;
    _problem text;
begin
    _problem := jobrunner.call_problem(task, args, queue, version, max_attempts, headers);
    if num_nonnulls(run_at, delay, key, unique_key, subject) > 0 or unique_until is distinct from 'start' then
        _problem := coalesce(_problem, jobrunner.option_problem(run_at, delay, key, unique_key, subject, unique_until));
    end if;
    if _problem is not null then
        raise exception 'jobrunner: %', _problem using errcode = 'JR003';
    end if;

    if queue is null or version is null or priority is null or max_attempts is null then
        select t.* into _known from jobrunner.tasks t where t.name = task;
    end if;
    queue := coalesce(queue, _known.queue, 'default');
    if delay is not null then
        _due := clock_timestamp() + delay;
    end if;
    _later := _due > clock_timestamp();
    if cause_job_id is null then
        cause_job_id := nullif(current_setting('jobrunner.cause_job_id', true), '')::bigint;
        correlation_id := coalesce(correlation_id, nullif(current_setting('jobrunner.correlation_id', true), '')::uuid);
    end if;

    if unique_key is not null then
        _id := jobrunner.take_unique_key(task, unique_key, unique_until);
        if _id < 0 then
            return -_id;                                    -- taken: nothing is written
        end if;
    end if;

    insert into jobrunner.jobs as j (
        id, state, blocked_on, queue, task, version, priority, run_at, max_attempts, key, unique_until, args, headers
    )
    overriding system value
    values (
        coalesce(_id, nextval('jobrunner.jobs_id_seq')),
        case when _later then 'scheduled' when key is not null then 'blocked' else 'ready' end,
        case when key is not null and not _later then 'arrival' end,
        queue,
        task,
        coalesce(version, _known.version, 1),
        coalesce(priority, _known.priority, 0),
        _due,
        coalesce(max_attempts, _known.max_attempts, 10),
        key,
        case when unique_key is not null then unique_until end,
        args,
        headers
    )
    returning j.id into _id;

    if subject is not null or correlation_id is not null or cause_job_id is not null or cause_event is not null or parent_id is not null then
        insert into jobrunner.job_links (job_id, cause_job_id, parent_id, correlation_id, cause_event, subject)
        values (_id, cause_job_id, parent_id, correlation_id, cause_event, subject);
    end if;

    if notify and not _later and coalesce(current_setting('jobrunner.notify', true), 'on') <> 'off' and jobrunner.sleeps(queue) then
        perform pg_notify('jobrunner', '');      -- not by wake: one more function took a quarter of a single enqueue
    end if;
    return _id;
end
$$;
