-- Whether fewer than _open deliveries of a subscription wait: ready ones of its class, and when it is ordered also those in the lines
-- of its keys and those that have not been seated yet. Looks at the newest _open entries of each index, and counts its own: what
-- others have waiting must not hold it up.
create or replace function jobrunner.has_room(_name text, _queue text, _priority smallint, _ordered boolean, _open integer)
returns boolean
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    _wait integer;
begin
    select count(*)
    into _wait
    from (
        select j.task
        from jobrunner.jobs j
        where j.queue = _queue
            and j.state = 'ready'
            and j.priority = _priority
        order by j.seq desc
        limit _open
    ) w
    where w.task = _name;
    if _ordered and _wait < _open then
        _wait := _wait + (
            select count(*)
            from (
                select
                from jobrunner.jobs j
                where j.blocked_on = 'key'
                    and j.key > _name || ' ' collate "C"
                    and j.key < _name || '!' collate "C"
                limit _open
            ) w
        ) + (
            select count(*)
            from (
                select j.task
                from jobrunner.jobs j
                where j.blocked_on = 'arrival'
                order by j.seq desc
                limit _open
            ) w
            where w.task = _name
        );
    end if;
    return _wait < _open;
end
$$;
