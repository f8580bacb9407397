-- Wakes a runner that sleeps on this queue, if any says that it does (sleeps). Called by whoever makes a job ready, after the
-- row is written.
create or replace function jobrunner.wake(_queue text)
returns void
language plpgsql
as $$
begin
    if jobrunner.sleeps(_queue) then
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
