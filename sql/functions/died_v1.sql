-- What follows when jobs have just died, in the same transaction: one of jobrunner's own events for each (but not about a delivery
-- of such an event, nor about the pump of a stream that reads them: that could go on for ever), and what on_dead says of a
-- subscription. Returns the ids that keep their key, so that nobody of it overtakes them: those of a subscription with block_key,
-- and jobs whose header on_dead says so. The rows of subscriptions that are to be paused are held already: may_die_v1.
create or replace function jobrunner.died_v1(_ids bigint[])
returns bigint[]
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    _paused record;
begin
    perform jobrunner.publish_system('job.dead', x.data, x.subject)
    from (
        select
            jsonb_build_object(
                'job_id', j.id::text, 'task', j.task, 'queue', j.queue, 'reason', j.reason, 'error', j.error, 'attempt', j.attempt,
                'failures', j.failures, 'key', j.key, 'subject', l.subject
            ) as data,
            'job:' || j.id as subject
        from jobrunner.jobs j
        left join jobrunner.job_links l on l.job_id = j.id
        where j.id = any (_ids)
            and not (j.args @> '{"system": true}' and j.args ?& array['position', 'recorded_at'])      -- delivery_args
            and not exists (
                select
                from jobrunner.subscriptions s
                where s.name = j.task
                    and s.mode = 'stream'
                    and '.jobrunner.job.dead' ~ s.pattern
            )
        order by j.id
    ) x;

    for _paused in
        update jobrunner.subscriptions s
        set paused_at = clock_timestamp(),
            paused_by = 'on_dead',
            pause_reason = format('job %s died: %s', d.id, coalesce(d.error, d.reason))
        from (
            select distinct on (j.task) j.task, j.id, j.reason, j.error
            from jobrunner.jobs j
            where j.id = any (_ids)
            order by j.task, j.id
        ) d
        where s.name = d.task
            and s.on_dead = 'pause'
            and s.paused_at is null
        returning s.name, s.pause_reason
    loop
        perform jobrunner.publish_system(
            'subscription.paused', jsonb_build_object('subscription', _paused.name, 'reason', _paused.pause_reason), 'subscription:' || _paused.name
        );
    end loop;

    return array(
        select j.id
        from jobrunner.jobs j
        left join jobrunner.subscriptions s on s.name = j.task
        where j.id = any (_ids)
            and j.holds_key
            and (s.on_dead = 'block_key' or j.headers ->> 'on_dead' = 'block_key')
    );
end
$$;
