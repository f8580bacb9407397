-- The arguments of a delivery: where its event lies. recorded_at names the partition. A delivery of one of jobrunner's own events
-- says so: when it dies, nothing is published about it.
create or replace function jobrunner.delivery_args(_position bigint, _at timestamptz, _type text)
returns jsonb
language sql
stable
as $$
    select case
        when starts_with(_type, 'jobrunner.') then jsonb_build_object('position', _position, 'recorded_at', _at, 'system', true)
        else jsonb_build_object('position', _position, 'recorded_at', _at)
    end
$$;
