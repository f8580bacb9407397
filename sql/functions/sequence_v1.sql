-- Moves up to _n events from the outbox (above _floor) into the log, gives them their positions, and delivers them to every live
-- subscription that wants them: one transaction. One session at a time (advisory try-lock; moved = -1 when another is at it).
-- The lock and the move are statements apart, so that the move has a snapshot newer than the commit of the holder before. What
-- is not visible yet comes with a later batch: nobody waits for an open transaction, and no event is skipped. A row that somebody
-- holds locked is passed over until he lets go: his own change of it is then what becomes visible last.
-- _passed are the transactions that _floor has passed although they were open, _base the floor from before: where one of them has
-- ended, in the snapshot that takes the rows, the floor is _base. Asked before, what came after it would be taken before it.
-- last is the id of the last one: a full step leaves nothing visible below it.
-- _alone false: without the lock, for a test inside its own transaction.
create or replace function jobrunner.sequence_v1(
    _n integer, _floor bigint default 0, _alone boolean default true, _base bigint default 0, _passed bigint[] default '{}',
    out moved integer, out delivered integer, out last bigint
)
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    _head bigint;
    _at   timestamptz;
begin
    perform jobrunner.require_read_committed();
    moved := 0;
    delivered := 0;
    if not exists (select from jobrunner.outbox o where o.id > jobrunner.sure_floor(_floor, _base, _passed)) then
        return;
    end if;
    if _alone and not pg_try_advisory_xact_lock(727004) then
        moved := -1;
        return;
    end if;

    select h.position, greatest(h.recorded_at, clock_timestamp()) into _head, _at from jobrunner.log_head() h;
    if to_regclass('jobrunner.events_p' || to_char(_at at time zone 'utc', 'YYYYMMDD')) is null then
        perform jobrunner.make_partitions(_at, 0);
    end if;

    with gone as (
        delete from jobrunner.outbox o
        where o.id = any (array(
            select x.id
            from jobrunner.outbox x
            where x.id > (select jobrunner.sure_floor(_floor, _base, _passed))
            order by x.id
            limit _n
            for update skip locked
        ))
        returning o.id, o.xact, o.occurred_at, o.event_id, o.correlation_id, o.cause_event, o.cause_job_id, o.version, o.type,
            o.source, o.subject, o.key, o.data, o.headers
    ),
    kept as (
        insert into jobrunner.events (
            position, recorded_at, xact, occurred_at, event_id, correlation_id, cause_event, cause_job_id, version, type, source,
            subject, key, data, headers
        )
        select
            _head + row_number() over (order by g.id), _at, g.xact, g.occurred_at, g.event_id, g.correlation_id, g.cause_event,
            g.cause_job_id, g.version, g.type, g.source, g.subject, g.key, g.data, g.headers
        from gone g
    )
    select count(*), max(g.id) into moved, last from gone g;

    if moved > 0 then
        delivered := jobrunner.deliver_v1(_head, _head + moved, _at);
    end if;
end
$$;
