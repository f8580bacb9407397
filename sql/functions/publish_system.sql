-- One of jobrunner's own events, jobrunner.WHAT: through the same outbox, to whoever subscribes to it by its full name or by a pattern
-- that begins with jobrunner.
create or replace function jobrunner.publish_system(_what text, _data jsonb, _subject text)
returns void
language plpgsql
as $$
begin
    insert into jobrunner.outbox (event_id, version, type, source, subject, data, headers)
    values (jobrunner.new_event_id(), 1, 'jobrunner.' || _what, 'jobrunner', _subject, _data, '{}');
    perform jobrunner.wake_sequencer();
end
$$;
