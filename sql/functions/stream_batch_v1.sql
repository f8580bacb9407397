-- The next batch of a stream subscription: at most _n events behind its cursor, in order, without what a person skipped. Always one
-- row at least, whose event is null when there is none: from_after is where the cursor stands and upto where it stands once
-- the batch is done (events of other types are passed over, _window positions at a time).
create or replace function jobrunner.stream_batch_v1(_name text, _n integer, _window integer default 50000)
returns table (
    from_after bigint, upto bigint, "position" bigint, recorded_at timestamptz, event_id uuid, type text, version smallint, source text,
    subject text, key text, occurred_at timestamptz, data text, headers text, correlation_id uuid, cause_event uuid, cause_job_id bigint
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
declare
    _c   jobrunner.cursors;
    _s   jobrunner.subscriptions;
    _end bigint;
begin
    select c.* into _c from jobrunner.cursors c where c.subscription = _name;
    select s.* into _s from jobrunner.subscriptions s where s.name = _name;
    if _c.subscription is null or _s.name is null then
        return;
    end if;
    _end := greatest(least((select h.position from jobrunner.log_head() h), _c.position + greatest(_n, _window)), _c.position);   -- it may start ahead
    return query
    with chosen as materialized (
        select e.*
        from jobrunner.events e
        where e.position > _c.position
            and e.position <= _end
            and '.' || e.type ~ _s.pattern
            and (_s.match is null or e.headers @> _s.match)
            and e.position <> all (_c.skips)
        order by e.position
        limit _n
    ),
    reach as (
        select case when count(*) = _n then max(c.position) else _end end as upto
        from chosen c
    )
    select
        _c.position, r.upto, c.position, c.recorded_at, c.event_id, c.type, c.version, c.source, c.subject, c.key, c.occurred_at,
        c.data::text, c.headers::text, coalesce(c.correlation_id, c.event_id), c.cause_event, c.cause_job_id
    from reach r
    left join chosen c on true
    order by c.position;
end
$$;
