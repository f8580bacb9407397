-- Of these jobs those that ended in place and have not been moved out of the way.
create or replace function jobrunner.undeparted_v1(_ids bigint[])
returns setof bigint
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select j.id
    from jobrunner.jobs j
    where j.id = any (_ids)
        and coalesce(j.finished_at, '-infinity') > '-infinity'             -- bare, it would make the index on all that ended eligible
        and j.state in ('succeeded', 'cancelled')
$$;
