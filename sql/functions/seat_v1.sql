-- Gives keyed jobs that have arrived their place in the line of their key; the first of a free key becomes ready. One
-- session at a time (advisory try-lock). Looks at the first _n arrivals above _floor, and as long as some of them cannot be
-- seated now at the _n behind them, 20 times at most: they must be no wall for other keys. Returns how many it looked at and how
-- many it seated. Only when the two are equal may a floor rise: an arrival that somebody holds, what came behind it on its key,
-- and all of a key whose holder is being released at that moment wait for the next call. seen = -1: another session is at it.
-- _base and _passed: as of sequence_v1.
create or replace function jobrunner.seat_v1(
    _n integer, _floor bigint default 0, _base bigint default 0, _passed bigint[] default '{}', out seen integer, out seated integer
)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _left  text[] := '{}';                       -- keys of which somebody has to wait: nobody of a later page may overtake him
    _page  record;
    _found record;
begin
    perform jobrunner.require_read_committed();
    seen := 0;
    seated := 0;
    if not pg_try_advisory_xact_lock(727001) then
        seen := -1;
        return;
    end if;

    for _ in 1 .. 20 loop
        with front as materialized (
            select j.id, j.key, j.seq
            from jobrunner.jobs j
            where j.blocked_on = 'arrival'
                and j.seq > (select jobrunner.sure_floor(_floor, _base, _passed))
            order by j.seq
            limit _n
        ),
        open as materialized (
            select f.id
            from front f
            where not exists (select from unnest(_left) l (key) where l.key = f.key)
        ),
        held as materialized (
            select j.id
            from jobrunner.jobs j
            where j.id = any (array(select o.id from open o))
                and coalesce(j.blocked_on, '') = 'arrival'       -- bare, it would make the index on all arrivals eligible
            for update skip locked
        )
        select
            count(*) as seen,
            max(t.seq) as last,
            array_agg(t.id) filter (where t.in_turn) as ids,
            array_agg(distinct t.key) filter (where t.in_turn) as keys,
            array_agg(distinct t.key) filter (where not t.in_turn) as left
        into _page
        from (
            select f.id, f.key, f.seq, bool_and(h.id is not null) over (partition by f.key order by f.seq) as in_turn
            from front f
            left join held h using (id)
        ) t;
        exit when _page.seen = 0;

        select s.seated, s.left_keys into _found from jobrunner.seat_rows_v1(_page.ids, _page.keys) s;
        seen := seen + _page.seen;
        seated := seated + _found.seated;
        exit when _page.seen < _n or _found.seated = _page.seen or seated >= _n;
        _left := _left || _page.left || _found.left_keys;
        _floor := _page.last;
        _passed := '{}';                         -- looked at from the right place on
    end loop;
end
$$;
