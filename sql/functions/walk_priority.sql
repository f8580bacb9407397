-- With what priority a walk over the log makes its deliveries: behind what is new, but for those that must keep the order with it.
create or replace function jobrunner.walk_priority(_kind text, _priority smallint)
returns smallint
language sql
immutable
as $$
    select case when _kind in ('replay', 'backfill') and _priority > -32768 then (_priority - 1)::smallint else _priority end
$$;
