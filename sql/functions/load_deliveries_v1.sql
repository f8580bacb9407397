-- The events of deliveries, by the arguments of each as text; n is its place in _args. An event that the log no longer has is absent.
create or replace function jobrunner.load_deliveries_v1(_args text[])
returns table (
    n bigint, "position" bigint, recorded_at timestamptz, event_id uuid, type text, version smallint, source text, subject text, key text,
    occurred_at timestamptz, data text, headers text, correlation_id uuid, cause_event uuid, cause_job_id bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
    return query
    select
        a.n, e.position, e.recorded_at, e.event_id, e.type, e.version, e.source, e.subject, e.key, e.occurred_at, e.data::text,
        e.headers::text, coalesce(e.correlation_id, e.event_id), e.cause_event, e.cause_job_id
    from (
        select x.n, substring(x.args ->> 'position' from '^[0-9]{1,18}$')::bigint as position, (x.args ->> 'recorded_at')::timestamptz as recorded_at
        from (select u.n, u.args::jsonb as args from unnest(_args) with ordinality u (args, n)) x
    ) a
    cross join lateral (                         -- with a limit it stays one: a join could read the whole log
        select x.*
        from jobrunner.events x
        where x.position = a.position
            and x.recorded_at = a.recorded_at
        limit 1
    ) e;
end
$$;
