-- Whether a runner says that it sleeps on this queue. Asked by whoever makes a job ready, after the row is written (so that the
-- transaction has its id before the flag is read: the protocol of the wake-up in docs/design.md). It is inlined where it is asked.
create or replace function jobrunner.sleeps(_queue text)
returns boolean
language sql
volatile
as $$
    select pg_sequence_last_value(format('jobrunner.asleep_%s', hashtext(_queue) & 15)::regclass)
        > extract(epoch from clock_timestamp()) * 1000
$$;
