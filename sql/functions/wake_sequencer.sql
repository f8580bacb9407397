-- Wakes a runner that sleeps, if any says that it does, to move events: the protocol of wake, with a flag that every runner
-- sets (the bucket of the name below) and a payload of its own, which spares the runners a look at their queues.
create or replace function jobrunner.wake_sequencer()
returns void
language plpgsql
as $$
begin
    if jobrunner.sleeps('jobrunner.outbox') then
        perform pg_notify('jobrunner', 'outbox');
    end if;
end
$$;
