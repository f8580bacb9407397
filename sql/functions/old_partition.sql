-- The partition of a table for a day that is past its time, as it is (old_partitions_v1); any other day is refused (JR004): whoever
-- may clear away what is old may not clear away anything else.
create or replace function jobrunner.old_partition(_table text, _day date, out name text, out attached boolean, out pending boolean)
language plpgsql
stable
as $$
begin
    select p.name, p.attached, p.pending
    into name, attached, pending
    from jobrunner.old_partitions_v1(_table) p
    where p.day = _day;
    if not found then
        raise exception 'jobrunner: % has no partition of % that is past its time', _table, _day using errcode = 'JR004';
    end if;
end
$$;
