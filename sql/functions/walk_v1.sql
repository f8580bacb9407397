-- The deliveries of what one walk wants between its place and _upto, at most _most, in the order of the positions. Returns how many
-- it made and how far it came. What is delivered again is marked in the job's headers, and waits behind what is new.
create or replace function jobrunner.walk_v1(
    _r jobrunner.replays, _s jobrunner.subscriptions, _upto bigint, _most integer, out made integer, out last bigint
)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _queues text[];
begin
    with chosen as materialized (
        select nextval('jobrunner.jobs_id_seq') as id, d.*
        from (
            select
                e.position, e.recorded_at, e.event_id, e.type, e.version, e.key, coalesce(e.correlation_id, e.event_id) as correlation_id
            from jobrunner.events e
            where e.position > _r.at_position
                and e.position <= _upto
                and '.' || e.type ~ _s.pattern
                and (_s.match is null or e.headers @> _s.match)
                and (_r.pattern is null or '.' || e.type ~ _r.pattern)
                and (_r.key is null or e.key = _r.key)
            order by e.position
            limit _most
        ) d
    ),
    written as (
        insert into jobrunner.jobs (id, state, blocked_on, queue, task, version, priority, max_attempts, key, args, headers)
        overriding system value
        select
            c.id,
            case when _s.ordered and c.key is not null then 'blocked' else 'ready' end,
            case when _s.ordered and c.key is not null then 'arrival' end,
            _s.queue,
            _s.name,
            c.version,
            jobrunner.walk_priority(_r.kind, _s.priority),
            _s.max_attempts,
            case when _s.ordered then _s.name || ' ' || c.key end,
            jobrunner.delivery_args(c.position, c.recorded_at, c.type),
            case when _r.kind in ('replay', 'rewind') and c.position <= _r.upto then jsonb_build_object('replay', _r.id) else '{}' end
        from chosen c
        order by c.id
        returning queue
    ),
    linked as (
        insert into jobrunner.job_links (job_id, correlation_id, cause_event)
        select c.id, c.correlation_id, c.event_id
        from chosen c
    )
    select
        (select count(*) from chosen),
        case when (select count(*) from chosen) = _most then (select max(c.position) from chosen c) else _upto end,
        (select array_agg(distinct w.queue) from written w)
    into made, last, _queues;
    perform jobrunner.wake(_queues);
end
$$;
