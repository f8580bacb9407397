-- The floor of a statement that must keep the order of commits: _floor, but _base when one of the transactions that it has passed
-- while they were open has ended in the snapshot of this very statement. STABLE: it takes the snapshot of the statement that calls it.
create or replace function jobrunner.sure_floor(_floor bigint, _base bigint, _passed bigint[])
returns bigint
language sql
stable
as $$
    select case
        when _passed <> '{}' and exists (
            select
            from unnest(_passed) p (xid)
            where pg_visible_in_snapshot(p.xid::text::xid8, pg_current_snapshot())
        ) then least(_base, _floor)
        else _floor
    end
$$;
