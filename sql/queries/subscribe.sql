-- Makes a subscription known unless it is: how the one that is there differs. Where it starts, when it is new: behind a position,
-- at a time, or (both null) with what is recorded from now on.
select jobrunner.subscribe_v1(
    %(name)s, %(app)s, %(spec)s, coalesce(%(after)s::bigint, jobrunner.position_at(%(since)s::timestamptz))
)
