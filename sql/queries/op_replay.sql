-- A subscription sees events again: the id of the walk; writes audit.
select jobrunner.op_replay(
    %(name)s, %(after)s::bigint, %(since)s::timestamptz, %(upto)s::bigint, %(until)s::timestamptz, %(types)s::text[], %(key)s,
    %(rate)s::float8, %(actor)s, %(reason)s
)
