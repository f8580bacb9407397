-- The sentence of why about a delivery whose subscription is paused.
create or replace function jobrunner.why_paused(_id bigint, _subscription text)
returns text
language sql
stable
as $$
    select format(
        'Job %s waits because subscription %s is paused since %s by %s%s: jobrunner subs resume %s', _id, s.name,
        to_char(s.paused_at at time zone 'utc', 'YYYY-MM-DD HH24:MI "UTC"'), s.paused_by, ' (' || s.pause_reason || ')', s.name
    )
    from jobrunner.subscriptions s
    where s.name = _subscription
$$;
