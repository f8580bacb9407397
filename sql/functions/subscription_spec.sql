-- What a subscription is declared to be, with every default: the columns of subscriptions that the code decides.
create or replace function jobrunner.subscription_spec(_spec jsonb)
returns jsonb
language sql
immutable
as $$
    select jsonb_build_object(
        'mode', coalesce(_spec ->> 'mode', 'queue'),
        'types', _spec -> 'types',
        'match', _spec -> 'match',
        'queue', _spec ->> 'queue',
        'priority', coalesce((_spec ->> 'priority')::smallint, 0),
        'max_attempts', coalesce((_spec ->> 'max_attempts')::integer, 10),
        'retry', coalesce(_spec -> 'retry', '{}'),
        'ordered', coalesce((_spec ->> 'ordered')::boolean, false),
        'on_dead', coalesce(_spec ->> 'on_dead', 'skip'),
        'replay', coalesce((_spec ->> 'replay')::boolean, true),
        'on_lag', coalesce(_spec ->> 'on_lag', 'hold')
    )
$$;
