-- Writes many events in one statement: a JSON array of objects with publish's parameters. Returns their ids in the order of the
-- array, which is also their order in the log. Checks and defaults are publish's.
create or replace function jobrunner.publish_many(events jsonb, notify boolean default true)
returns uuid[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
#variable_conflict use_variable
declare
    _problem text;
    _ids     uuid[];
    _cause   bigint := nullif(current_setting('jobrunner.cause_job_id', true), '')::bigint;
    _event   uuid := nullif(current_setting('jobrunner.cause_event', true), '')::uuid;
    _tree    uuid := nullif(current_setting('jobrunner.correlation_id', true), '')::uuid;
begin
    select format('event %s of the call: %s', p.n, p.problem)
    into _problem
    from (
        select
            r.n,
            jobrunner.event_problem(r.type, r.data, coalesce(r.version, 1::smallint), r.key, r.subject, coalesce(r.headers, '{}'), r.source) as problem
        from rows from (
            jsonb_to_recordset(events) as (
                type text, data jsonb, version smallint, key text, subject text, headers jsonb, source text
            )
        ) with ordinality r (type, data, version, key, subject, headers, source, n)
    ) p
    where p.problem is not null
    limit 1;
    if _problem is not null then
        raise exception 'jobrunner: %', _problem using errcode = 'JR003';
    end if;

    with given as materialized (
        select g.*, coalesce(g.event_id, jobrunner.new_event_id()) as id
        from rows from (
            jsonb_to_recordset(events) as (
                type text, data jsonb, version smallint, key text, subject text, headers jsonb, source text, event_id uuid,
                correlation_id uuid, cause_job_id bigint, cause_event uuid
            )
        ) with ordinality g (
            type, data, version, key, subject, headers, source, event_id, correlation_id, cause_job_id, cause_event, n
        )
    ),
    written as (
        insert into jobrunner.outbox (
            event_id, correlation_id, cause_event, cause_job_id, version, type, source, subject, key, data, headers
        )
        select
            g.id,
            coalesce(g.correlation_id, case when g.cause_job_id is null then _tree end, jobrunner.job_correlation(coalesce(g.cause_job_id, _cause))),
            coalesce(g.cause_event, case when g.cause_job_id is null then _event end),
            coalesce(g.cause_job_id, _cause),
            coalesce(g.version, 1),
            g.type,
            coalesce(g.source, ''),
            g.subject,
            g.key,
            g.data,
            coalesce(g.headers, '{}')
        from given g
        order by g.n
    )
    select coalesce(array_agg(g.id order by g.n), '{}') into _ids from given g;

    if _ids <> '{}' and notify and coalesce(current_setting('jobrunner.notify', true), 'on') <> 'off' then
        perform jobrunner.wake_sequencer();
    end if;
    return _ids;
end
$$;
