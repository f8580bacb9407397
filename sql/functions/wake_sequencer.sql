-- Wakes a runner that sleeps, if any says that it does, to move events: the protocol of wake, with a flag that every runner
-- sets (the bucket of the name below) and a payload of its own, which spares the runners a look at their queues.
create or replace function jobrunner.wake_sequencer()
returns void
language plpgsql
as $$
begin
    if pg_sequence_last_value(format('jobrunner.asleep_%s', hashtext('jobrunner.outbox') & 15)::regclass)
        > extract(epoch from clock_timestamp()) * 1000
    then
        perform pg_notify('jobrunner', 'outbox');
    end if;
end
$$;
