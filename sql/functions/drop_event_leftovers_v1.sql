-- Drops what nobody needs any more of what events leave: messages of the inbox that have expired (_n at a time), sagas that are over
-- (retention_sagas), walks over the log that are (retention_audit). Returns how many messages that was.
create or replace function jobrunner.drop_event_leftovers_v1(_n integer)
returns integer
language sql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    with sagas as (
        delete from jobrunner.sagas g
        where g.finished_at < now() - (select (s.value #>> '{}')::interval from jobrunner.settings s where s.name = 'retention_sagas')
    ),
    walks as (
        delete from jobrunner.replays r
        where r.finished_at < now() - (select (s.value #>> '{}')::interval from jobrunner.settings s where s.name = 'retention_audit')
    ),
    messages as (
        delete from jobrunner.inbox i
        where (i.consumer, i.message_id) in (
            select x.consumer, x.message_id
            from jobrunner.inbox x
            where x.expires_at < now()
            order by x.expires_at
            limit _n
            for update skip locked
        )
        returning 1
    )
    select count(*)::integer from messages
$$;
