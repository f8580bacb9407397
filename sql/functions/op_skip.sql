-- A person lets a subscription pass over one event: its delivery is cancelled (discarded when it is dead; asked to stop when it runs),
-- a stream never reads it. Returns what was done: cancelled | requested | discarded | busy (someone holds it: again, please) | skipped
-- (by a stream) | over (there is no open delivery of it). Reads all of jobs once. Writes audit.
create or replace function jobrunner.op_skip(_subscription text, _position bigint, _actor text default session_user, _reason text default null)
returns text
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
declare
    _mode text;
    _job  record;
    _told text := 'over';
begin
    perform jobrunner.require_read_committed();
    perform jobrunner.require_subscription(_subscription);
    select s.mode into _mode from jobrunner.subscriptions s where s.name = _subscription;
    if _mode = 'stream' then
        update jobrunner.cursors c
        set skips = c.skips || _position
        where c.subscription = _subscription
            and c.position < _position
            and _position <> all (c.skips);
        if found then
            _told := 'skipped';
        end if;
    else
        for _job in
            select j.id, j.state
            from jobrunner.jobs j
            where j.task = _subscription
                and j.args @> jsonb_build_object('position', _position)
        loop
            if _job.state = 'dead' then
                _told := case when jobrunner.op_discard(array[_job.id], _actor, _reason) = '{}' then 'busy' else 'discarded' end;
            else
                select c.result into _told from jobrunner.op_cancel(array[_job.id], _actor, _reason) c;
            end if;
        end loop;
    end if;
    insert into jobrunner.audit (actor, action, target, reason, detail)
    values (
        _actor, 'skip', 'subscription ' || _subscription, _reason, jsonb_build_object('position', _position, 'result', _told)
    );
    return _told;
end
$$;
