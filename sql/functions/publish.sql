-- Writes one event in the caller's transaction and returns its id. Works in every isolation level, in savepoints, in triggers
-- and in a transaction that will be prepared (notify => false, or set local jobrunner.notify = off). Takes no lock. A runner's
-- sequencer moves it into the log after the commit. Errors: SQLSTATE JR003 with a sentence.
create or replace function jobrunner.publish(
    type           text,
    data           jsonb,
    version        smallint default 1,
    key            text     default null,
    subject        text     default null,
    headers        jsonb    default '{}',
    source         text     default null,
    event_id       uuid     default null,
    notify         boolean  default true,
    correlation_id uuid     default null,
    cause_job_id   bigint   default null,
    cause_event    uuid     default null
)
returns uuid
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
#variable_conflict use_variable
declare
    _problem text := jobrunner.event_problem(type, data, version, key, subject, headers, source);
begin
    if _problem is not null then
        raise exception 'jobrunner: %', _problem using errcode = 'JR003';
    end if;
    if cause_job_id is null then
        cause_job_id := nullif(current_setting('jobrunner.cause_job_id', true), '')::bigint;
        cause_event := coalesce(cause_event, nullif(current_setting('jobrunner.cause_event', true), '')::uuid);
        correlation_id := coalesce(correlation_id, nullif(current_setting('jobrunner.correlation_id', true), '')::uuid);
    end if;
    if cause_job_id is not null then
        correlation_id := coalesce(correlation_id, jobrunner.job_correlation(cause_job_id));
    end if;
    event_id := coalesce(event_id, jobrunner.new_event_id());
    insert into jobrunner.outbox (
        event_id, correlation_id, cause_event, cause_job_id, version, type, source, subject, key, data, headers
    )
    values (
        event_id, correlation_id, cause_event, cause_job_id, version, type, coalesce(source, ''), subject, key, data, headers
    );
    if notify and coalesce(current_setting('jobrunner.notify', true), 'on') <> 'off' and jobrunner.sleeps('jobrunner.outbox') then
        perform pg_notify('jobrunner', 'outbox');          -- as enqueue does
    end if;
    return event_id;
end
$$;
