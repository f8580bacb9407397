-- Makes a runner known: its row, the tasks and versions that it understands, and what enqueue should know of each task (the
-- settings of the newest version win). Tasks are taken in the order of their names, so that two starts cannot deadlock.
create or replace function jobrunner.register_v1(
    _runner bigint, _ttl interval, _slots integer, _app text, _host text, _pid integer, _version text, _queues text[], _tasks jsonb
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    insert into jobrunner.runners (id, ttl, slots, app, host, pid, version, queues)
    values (_runner, _ttl, _slots, _app, _host, _pid, _version, _queues);

    insert into jobrunner.runner_tasks (task, runner_id, version)
    select t.name, _runner, t.version
    from jsonb_to_recordset(_tasks) as t (name text, version smallint);

    insert into jobrunner.tasks as t (name, version, queue, priority, max_attempts, retry, seen_at)
    select n.name, n.version, n.queue, n.priority, n.max_attempts, n.retry, clock_timestamp()
    from jsonb_to_recordset(_tasks) as n (name text, version smallint, queue text, priority smallint, max_attempts integer, retry jsonb)
    order by n.name
    on conflict (name) do update
    set version = excluded.version,
        queue = excluded.queue,
        priority = excluded.priority,
        max_attempts = excluded.max_attempts,
        retry = excluded.retry,
        seen_at = excluded.seen_at
    where t.version <= excluded.version;
end
$$;
