-- Whether fewer than _open deliveries of a subscription wait: of its class in the ready order, and when it is ordered also in the
-- lines of its keys, with whatever has not been seated yet. Reads at most _open entries of each index.
create or replace function jobrunner.has_room(_name text, _queue text, _priority smallint, _ordered boolean, _open integer)
returns boolean
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _wait integer;
begin
    select count(*)
    into _wait
    from (
        select
        from jobrunner.jobs j
        where j.queue = _queue
            and j.state = 'ready'
            and j.priority = _priority
        limit _open
    ) w;
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
                select
                from jobrunner.jobs j
                where j.blocked_on = 'arrival'
                limit _open
            ) w
        );
    end if;
    return _wait < _open;
end
$$;
