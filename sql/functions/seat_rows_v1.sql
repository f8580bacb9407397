-- Seats these arrivals of these keys, all held FOR UPDATE by the caller (seat_v1), in the order of their stamps. Two statements, each
-- with its own snapshot: hold the holders still, decide. Returns how many it seated, and the keys that it left: a holder that
-- someone is ending right now is locked by him.
create or replace function jobrunner.seat_rows_v1(_ids bigint[], _keys text[], out seated integer, out left_keys text[])
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _still  text[];
    _queues text[];
    _placed bigint[];
    _places bigint[];
    _firsts bigint[];
begin
    select coalesce(array_agg(h.key), '{}')
    into _still
    from (
        select h.key
        from unnest(_keys) k (key)
        cross join lateral (
            select x.key
            from jobrunner.jobs x
            where x.key = k.key
                and x.holds_key
            order by x.key_pos desc
            limit 1
            for key share skip locked
        ) h
    ) h;

    with arrived as materialized (
        select j.id, j.key, j.seq
        from jobrunner.jobs j
        where j.id = any (_ids)
    ),
    keys as materialized (
        select
            k.key,
            -- Not exists (…): that may become a join, and a join may read all that wait.
            (select true from jobrunner.jobs h where h.key = k.key and h.holds_key limit 1) is not null as taken,
            (select true from jobrunner.jobs w where w.key = k.key and w.blocked_on = 'key' limit 1) is not null as waited_for,
            s.key is not null as still
        from unnest(_keys) k (key)
        left join unnest(_still) s (key) using (key)
    ),
    placed as materialized (
        select
            a.id,
            nextval('jobrunner.key_seq') as pos,
            not k.taken and not k.waited_for and row_number() over (partition by a.key order by a.seq) = 1 as first
        from (select * from arrived order by seq) a
        join keys k using (key)
        where not k.taken
            or k.still
    )
    select
        coalesce(array_agg(p.id), '{}'),
        coalesce(array_agg(p.pos), '{}'),
        coalesce(array_agg(p.id) filter (where p.first), '{}'),
        array(select k.key from keys k where k.taken and not k.still)
    into _placed, _places, _firsts, left_keys
    from placed p;

    -- By arrays and not by a join: planned on a table that was nearly empty, the join read every job, for each of these (2.6 s for 500
    -- of 50,000 arrivals).
    with done as (
        update jobrunner.jobs j
        set key_pos = _places[array_position(_placed, j.id)],
            holds_key = j.id = any (_firsts),
            state = case when j.id = any (_firsts) then 'ready' else 'blocked' end,
            blocked_on = case when j.id <> all (_firsts) then 'key' end,
            seq = case when j.id = any (_firsts) then jobrunner.stamp() else j.seq end
        where j.id = any (_placed)
        returning j.state, j.queue
    )
    select
        count(*),
        array_agg(distinct d.queue) filter (where d.state = 'ready')
    into seated, _queues
    from done d;

    perform jobrunner.wake(_queues);
end
$$;
