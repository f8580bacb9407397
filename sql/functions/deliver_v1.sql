-- Makes the deliveries of what was just recorded at _at, behind position _after and up to _upto: a job for each queue
-- subscription that wants it, in the order of the positions, and the pump of each stream that does. Returns how many
-- deliveries. Called by sequence_v1 under its lock. A delivery points at its event; the payload stays in the log.
create or replace function jobrunner.deliver_v1(_after bigint, _upto bigint, _at timestamptz)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _queues text[];
    _made   integer;
    _stream text;
begin
    if not exists (select from jobrunner.subscriptions) then
        return 0;
    end if;

    with found as materialized (
        select
            e.position, e.event_id, e.type, e.version, e.key, coalesce(e.correlation_id, e.event_id) as correlation_id, e.headers
        from jobrunner.events e
        where e.position > _after
            and e.position <= _upto
            and e.recorded_at = _at
    ),
    wanted as materialized (                     -- matched once a type, not once an event
        select
            k.type, s.name, s.queue, s.priority, s.max_attempts, s.ordered, s.match, s.live_from, s.paused_at is not null as paused
        from (select distinct f.type from found f) k
        join jobrunner.subscriptions s on '.' || k.type ~ s.pattern
        where s.mode = 'queue'
            and s.state = 'live'
    ),
    chosen as materialized (
        select nextval('jobrunner.jobs_id_seq') as id, d.*
        from (
            select
                f.position, f.event_id, f.type, f.version, f.correlation_id, w.name, w.queue, w.priority, w.max_attempts, w.paused,
                case when w.ordered then w.name || ' ' || f.key end as key
            from found f
            join wanted w on w.type = f.type
            where f.position > w.live_from
                and (w.match is null or f.headers @> w.match)
            order by f.position, w.name
        ) d
    ),
    written as (
        insert into jobrunner.jobs (id, state, blocked_on, queue, task, version, priority, max_attempts, key, args)
        overriding system value
        select
            c.id,
            case when c.key is not null or c.paused then 'blocked' else 'ready' end,
            case when c.key is not null then 'arrival' when c.paused then 'task' end,
            c.queue,
            c.name,
            c.version,
            c.priority,
            c.max_attempts,
            c.key,
            jobrunner.delivery_args(c.position, _at, c.type)
        from chosen c
        order by c.id
        returning queue, state, blocked_on
    ),
    linked as (
        insert into jobrunner.job_links (job_id, correlation_id, cause_event)
        select c.id, c.correlation_id, c.event_id
        from chosen c
    )
    select
        count(*), array_agg(distinct w.queue) filter (where w.blocked_on is distinct from 'task')
    into _made, _queues
    from written w;
    perform jobrunner.wake(_queues);

    for _stream in
        select s.name
        from jobrunner.subscriptions s
        where s.mode = 'stream'
            and exists (
                select
                from jobrunner.events e
                where e.position > _after
                    and e.position <= _upto
                    and e.recorded_at = _at
                    and '.' || e.type ~ s.pattern
            )
        order by s.name
    loop
        perform jobrunner.pump_v1(_stream);
    end loop;
    return _made;
end
$$;
