-- Gives keyed jobs that have arrived their place in the line of their key; the first of a free key becomes ready. One
-- session at a time (advisory try-lock). Looks at up to _n arrivals above _floor; returns how many it looked at and how
-- many it seated: fewer, when a holder was being released at that moment, and those wait for the next call.
-- seen = -1: another session is at it. Three statements, each with its own snapshot: pick, hold the holders still, decide.
create or replace function jobrunner.seat_v1(_n integer, _floor bigint default 0, out seen integer, out seated integer)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _ids   bigint[];
    _keys  text[];
    _still text[];
    _queues text[];
begin
    perform jobrunner.require_read_committed();
    seen := 0;
    seated := 0;
    if not pg_try_advisory_xact_lock(727001) then
        seen := -1;
        return;
    end if;

    select array_agg(a.id order by a.seq), array_agg(distinct a.key)
    into _ids, _keys
    from (
        select j.id, j.key, j.seq
        from jobrunner.jobs j
        where j.blocked_on = 'arrival'
            and j.seq > _floor
        order by j.seq
        limit _n
        for update skip locked
    ) a;
    if _ids is null then
        return;
    end if;
    seen := cardinality(_ids);

    -- A holder that someone is ending right now is locked by him: its key is left for the next call.
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
            exists (select from jobrunner.jobs h where h.key = k.key and h.holds_key) as taken,
            exists (select from jobrunner.jobs w where w.key = k.key and w.blocked_on = 'key') as waited_for,
            k.key = any (_still) as still
        from unnest(_keys) k (key)
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
    ),
    done as (
        update jobrunner.jobs j
        set key_pos = p.pos,
            holds_key = p.first,
            state = case when p.first then 'ready' else 'blocked' end,
            blocked_on = case when not p.first then 'key' end,
            seq = case when p.first then jobrunner.stamp() else j.seq end
        from placed p
        where j.id = p.id
        returning j.state, j.queue
    )
    select count(*), array_agg(distinct d.queue) filter (where d.state = 'ready')
    into seated, _queues
    from done d;

    perform jobrunner.wake(_queues);
end
$$;
