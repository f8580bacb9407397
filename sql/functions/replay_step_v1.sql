-- One step of one walk over the log (a row of replays): the deliveries of the next events, at most _n, at most what its rate allows,
-- and none while _open of its subscription's wait already. A walk that must meet the present (catch_up, rewind) says near when it
-- is close to it: the caller then asks for a _last step. That one takes the sequencer's lock, and all that is left; from the next
-- event on the subscription is live. So no key ever sees a later event before an earlier one, and each event comes once. A _last
-- step takes the walk of these that came farthest: another that is further back must not keep it from its end. Returns
-- the id of the walk (null: nothing to do now), how many deliveries it made, whether there is more to do at once, and whether
-- some walk only waits for its rate or for room.
create or replace function jobrunner.replay_step_v1(
    _n integer, _last boolean default false, _open integer default 10000,
    out walk bigint, out delivered integer, out more boolean, out near boolean, out waits boolean
)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '2s'
as $$
declare
    _r        jobrunner.replays;
    _s        jobrunner.subscriptions;
    _now      timestamptz := clock_timestamp();
    _end      bigint;
    _most     integer := _n;
    _made     record;
    _to_live  boolean;
    _finished boolean;
begin
    perform jobrunner.require_read_committed();
    delivered := 0;
    more := false;
    near := false;
    if _last then                                -- before the row, as whoever registers or rewinds does
        perform jobrunner.lock_log();
    end if;
    select r.*
    into _r
    from jobrunner.replays r
    join jobrunner.subscriptions s on s.name = r.subscription
    where r.state = 'running'
        and s.paused_at is null
        and (r.rate is null or r.rate * extract(epoch from _now - r.moved_at) >= 1)
        and (not _last or r.kind in ('catch_up', 'rewind'))
        and jobrunner.has_room(s.name, s.queue, jobrunner.walk_priority(r.kind, s.priority), s.ordered, _open)
    order by case when _last then -r.at_position end, r.moved_at
    limit 1
    for update of r skip locked;
    if not found then
        waits := exists (
            select
            from jobrunner.replays r
            join jobrunner.subscriptions s on s.name = r.subscription
            where r.state = 'running'
                and s.paused_at is null
        );
        return;
    end if;
    waits := false;
    walk := _r.id;
    select s.* into _s from jobrunner.subscriptions s where s.name = _r.subscription;
    if _r.rate is not null then
        _most := least(_n, greatest(floor(_r.rate * least(extract(epoch from _now - _r.moved_at), 1)), 1))::integer;   -- no burst after a pause
    end if;

    _to_live := _r.kind in ('catch_up', 'rewind');
    _end := case when _to_live then (select h.position from jobrunner.log_head() h) else _r.upto end;
    _last := _last and _to_live and _end - _r.at_position <= _n;
    if _last then
        _most := null;
    end if;

    select d.made, d.last into _made from jobrunner.walk_v1(_r, _s, least(_end, _r.at_position + 10 * _n), _most) d;
    delivered := _made.made;
    _finished := _made.last >= _end and (_last or not _to_live);
    update jobrunner.replays r
    set at_position = _made.last,
        delivered = r.delivered + _made.made,
        moved_at = clock_timestamp(),
        state = case when _finished then 'done' else 'running' end,
        finished_at = case when _finished then clock_timestamp() end
    where r.id = _r.id;
    if _last then
        update jobrunner.subscriptions s
        set state = 'live',
            live_from = _end
        where s.name = _r.subscription;
    end if;
    near := _to_live and not _last and _end - _made.last <= _n;
    more := _r.rate is null or _made.made = 0;
end
$$;
