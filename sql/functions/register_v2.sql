-- Makes a runner known: its row, the tasks and versions that it understands, and what enqueue should know of each task
-- (register_v1); and what it says of itself since: how often it looks, and which versions of the schema its library was
-- written for. _about is {poll (seconds), schema_oldest, schema_newest}; what it does not name stays null.
create or replace function jobrunner.register_v2(
    _runner bigint, _ttl interval, _slots integer, _app text, _host text, _pid integer, _version text, _queues text[], _tasks jsonb,
    _about jsonb
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    perform jobrunner.register_v1(_runner, _ttl, _slots, _app, _host, _pid, _version, _queues, _tasks);
    update jobrunner.runners r
    set poll = a.poll * interval '1 s',
        schema_oldest = a.schema_oldest,
        schema_newest = a.schema_newest
    from jsonb_to_record(_about) as a (poll double precision, schema_oldest integer, schema_newest integer)
    where r.id = _runner;
end
$$;
