-- Whether this consumer takes this message for the first time (or its record has expired): a row, or none.
insert into jobrunner.inbox as i (consumer, message_id, expires_at)
values (%(consumer)s, %(message_id)s, now() + %(expires)s::interval)
on conflict (consumer, message_id) do update
set received_at = clock_timestamp(),
    expires_at = excluded.expires_at
where i.expires_at <= now()
returning true
