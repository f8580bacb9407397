-- Whether this consumer takes this message for the first time, or its record has expired; remembered in the caller's transaction.
create or replace function jobrunner.take_message_v1(_consumer text, _message_id text, _expires interval)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    if _consumer is null or octet_length(_consumer) not between 1 and 200 or _consumer ~ '[[:cntrl:]]' then
        raise exception 'jobrunner: consumer must have 1 to 200 bytes and no control character' using errcode = 'JR003';
    elsif _message_id is null or octet_length(_message_id) not between 1 and 512 or _message_id ~ '[[:cntrl:]]' then
        raise exception 'jobrunner: message_id must have 1 to 512 bytes and no control character' using errcode = 'JR003';
    end if;
    insert into jobrunner.inbox as i (consumer, message_id, expires_at)
    values (_consumer, _message_id, now() + _expires)
    on conflict (consumer, message_id) do update
    set received_at = clock_timestamp(),
        expires_at = excluded.expires_at
    where i.expires_at <= now();
    return found;
end
$$;
