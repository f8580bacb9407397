-- Is there work for these tasks that is due: an event in the outbox, a walk over the log, a job that is ready, running, arriving,
-- waiting for its turn, or scheduled and due? What waits for a person (a paused subscription, a key behind a dead job) is none.
create or replace function jobrunner.is_busy_v1(_tasks text[])
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
    select
        exists (select from jobrunner.outbox)
        or exists (
            select
            from jobrunner.replays r
            join jobrunner.subscriptions s on s.name = r.subscription
            where r.state = 'running'
                and s.paused_at is null
                and r.subscription = any (_tasks)
        )
        or exists (
            select
            from jobrunner.jobs j
            where j.task = any (_tasks)
                and (
                    j.state in ('ready', 'running', 'succeeded')
                    or j.blocked_on = 'arrival'
                    or (j.state = 'scheduled' and j.run_at <= now())
                    or (
                        j.blocked_on = 'key'
                        and not exists (select from jobrunner.jobs h where h.key = j.key and h.holds_key and h.state = 'dead')
                    )
                )
                and (
                    j.state in ('running', 'succeeded')
                    or not exists (select from jobrunner.subscriptions s where s.name = j.task and s.paused_at is not null)
                )
        )
$$;
