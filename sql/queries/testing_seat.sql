-- Gives arrivals their places in the lines of their keys: how many. What seat_v1 does, without its lock: that would be held until the
-- test ends, and nobody else's keys would move.
select s.seated
from (
    select array_agg(a.id) as ids, array_agg(distinct a.key) as keys
    from (
        select j.id, j.key
        from jobrunner.jobs j
        where j.blocked_on = 'arrival'
        order by j.seq
        limit 1000
        for update skip locked
    ) a
) w
cross join lateral jobrunner.seat_rows_v1(w.ids, w.keys) s
where w.ids is not null
