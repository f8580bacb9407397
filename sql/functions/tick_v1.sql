-- One look around, before a claim: says until when this runner sleeps, promotes what is due, seats what has arrived, and
-- returns what a claimer must know. _classes as (queue, priority) pairs that it knows already; _any: it takes every queue.
--   snapshot, stamp, at, drawn ... for the horizon: the stamp and the clock of one tick pair with the transaction id that the NEXT
--                           one draws. Not with its snapshot's xmax: that is one past the last id that has ENDED, and ids above
--                           it may be in progress and have drawn stamps
--   promoted, seen, seated  what became of the due and the arrived (seen = -1: another session seats)
--   due_at ................ when the next scheduled job is due
--   queues, priorities .... classes with a ready job that the caller did not name, found by probing the gaps between those
--                           that it did: a probe never walks the dead entries of a class that is known
create or replace function jobrunner.tick_v1(
    _queues        text[],
    _priorities    smallint[],
    _any           boolean,
    _asleep        interval,
    _arrived_floor bigint,
    _due_floor     timestamptz,
    _n             integer     default 500,
    _now           timestamptz default null,
    _base          bigint      default 0,
    _passed        bigint[]    default '{}',
    out snapshot   text,
    out stamp      bigint,
    out at         timestamptz,
    out promoted   integer,
    out seen       integer,
    out seated     integer,
    out due_in     double precision,
    out queues     text[],
    out priorities smallint[],
    out drawn      bigint
)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
begin
    if _asleep is not null then
        perform setval(b.flag, greatest(                     -- another may sleep for longer
            (extract(epoch from clock_timestamp() + _asleep) * 1000)::bigint, pg_sequence_last_value(b.flag)
        ))
        from (
            select format('jobrunner.asleep_%s', n)::regclass as flag
            from generate_series(0, 15) n
            where _any
                or n in (select hashtext(q) & 15 from unnest(_queues || 'jobrunner.outbox'::text) q)   -- every runner moves events
        ) b;
    end if;

    promoted := jobrunner.promote_v1(_n, _due_floor, _now);
    select s.seen, s.seated into seen, seated from jobrunner.seat_v1(_n, _arrived_floor, _base, _passed) s;

    select
        array_agg(f.queue), array_agg(f.priority)
    into queues, priorities
    from (
        select g.queue, y.priority
        from (
            select k.queue, lag(k.priority) over w as low, k.priority as high
            from unnest(_queues, _priorities) k (queue, priority)
            window w as (partition by k.queue order by k.priority)
            union all
            select k.queue, max(k.priority), null
            from unnest(_queues, _priorities) k (queue, priority)
            group by k.queue
        ) g
        cross join lateral (
            select x.priority
            from jobrunner.jobs x
            where x.state = 'ready'
                and x.queue = g.queue
                and x.priority > coalesce(g.low, -32769)
                and x.priority < coalesce(g.high, 32768)
            order by x.priority desc, x.seq
            limit 1
        ) y
        union all
        select y.queue, y.priority
        from (
            select lag(k.queue) over (order by k.queue) as low, k.queue as high
            from (select distinct q collate "C" as queue from unnest(_queues) q) k
            union all
            select max(q collate "C"), null
            from unnest(_queues) q
        ) g
        cross join lateral (
            select x.queue, x.priority
            from jobrunner.jobs x
            where _any
                and x.state = 'ready'
                and x.queue > coalesce(g.low, '')
                and x.queue < coalesce(g.high, repeat(chr(1114111), 51))
            order by x.queue
            limit 1
        ) y
    ) f;

    select pg_current_snapshot()::text, s.last_value, clock_timestamp(), pg_current_xact_id()::text::bigint
    into snapshot, stamp, at, drawn
    from jobrunner.stamp s;

    select extract(epoch from x.run_at - coalesce(_now, clock_timestamp()))
    into due_in
    from jobrunner.jobs x
    where x.state = 'scheduled'
        and x.run_at > _due_floor
    order by x.run_at
    limit 1;
end
$$;
