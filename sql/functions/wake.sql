-- Wakes a runner that sleeps on this queue, if any says that it does. Called by whoever makes a job ready, after the
-- row is written (so that the transaction has its id before the flag is read: PROTOCOLS of the wake-up in docs/design.md).
create or replace function jobrunner.wake(_queue text)
returns void
language plpgsql
as $$
begin
    if pg_sequence_last_value(format('jobrunner.asleep_%s', hashtext(_queue) & 15)::regclass)
        > extract(epoch from clock_timestamp()) * 1000
    then
        perform pg_notify('jobrunner', '');
    end if;
end
$$;

-- The same for several queues; null and empty are none.
create or replace function jobrunner.wake(_queues text[])
returns void
language plpgsql
as $$
begin
    perform jobrunner.wake(q) from unnest(_queues) q;
end
$$;
