-- What a step made of a saga.
select jobrunner.save_saga_v1(
    %(name)s, %(key)s, %(starts)s, %(status)s, %(state)s::jsonb, %(push)s::jsonb, %(reason)s, %(new_timeout)s, %(timeout)s::interval,
    %(correlation_id)s::uuid, %(notify)s
)
