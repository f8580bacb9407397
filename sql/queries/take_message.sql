-- Does this consumer take this message for the first time (or has its record expired)?
select jobrunner.take_message_v1(%(consumer)s, %(message_id)s, %(expires)s::interval)
