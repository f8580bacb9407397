-- Makes a subscription known inside a test's transaction: under which name, whether it is new, and whether something lies behind it already.
-- Without the sequencer's lock, which would be held until the test ends; so one that starts in the past is live at once, and its past
-- comes by a backfill before anything else. A name that another test's open transaction has just taken would make this one wait: it gets
-- one of its own, NAME~PID. "Now" is the beginning of the test's transaction.
with known as materialized (
    select coalesce(
        (select s.name from jobrunner.subscriptions s where s.name = %(name)s || '~' || pg_backend_pid()),
        (select s.name from jobrunner.subscriptions s where s.name = %(name)s)
    ) as name
),
chosen as materialized (
    select
        k.name is null as is_new,
        coalesce(k.name, case when pg_try_advisory_xact_lock(727005, hashtext(%(name)s)) then %(name)s else %(name)s || '~' || pg_backend_pid() end)
            as name
    from known k
),
place as materialized (
    select
        h.position as head,
        coalesce(%(after)s::bigint, jobrunner.position_at(%(since)s::timestamptz), jobrunner.position_at(now())) as after
    from jobrunner.log_head() h
),
made as (
    insert into jobrunner.subscriptions (
        name, app, mode, types, pattern, match, queue, priority, max_attempts, retry, ordered, on_dead, replay, on_lag, live_from
    )
    select
        c.name, %(app)s, d.mode, d.types, jobrunner.topic_pattern(d.types), d.match, d.queue, d.priority, d.max_attempts, d.retry,
        d.ordered, d.on_dead, d.replay, d.on_lag, greatest(p.head, p.after)
    from chosen c
    cross join place p
    cross join jsonb_populate_record(null::jobrunner.subscriptions, jobrunner.subscription_spec(%(spec)s)) d
    where c.is_new
    returning name, mode
),
reads as (
    insert into jobrunner.cursors (subscription, position)
    select m.name, p.after
    from made m
    cross join place p
    where m.mode = 'stream'
),
walks as (
    insert into jobrunner.replays (subscription, kind, from_after, upto, at_position, actor)
    select m.name, 'backfill', p.after, p.head, p.after, 'registration'
    from made m
    cross join place p
    where m.mode = 'queue'
        and p.after < p.head
)
select c.name, c.is_new, p.after < p.head
from chosen c
cross join place p
