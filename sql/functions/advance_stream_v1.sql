-- Moves the cursor of a stream over a batch that is done, in the transaction of whoever did it; false when it does not stand where
-- the batch began (a person moved it, or another run was faster): then the batch must not count. Sees to it that what
-- comes after is read.
create or replace function jobrunner.advance_stream_v1(_name text, _from bigint, _upto bigint)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    update jobrunner.cursors c
    set position = _upto,
        skips = array(select s.position from unnest(c.skips) s (position) where s.position > _upto),
        moved_at = clock_timestamp()
    where c.subscription = _name
        and c.position = _from;
    if not found then
        return false;
    end if;
    if (select h.position from jobrunner.log_head() h) > _upto then
        perform jobrunner.pump_v1(_name);
    end if;
    return true;
end
$$;
