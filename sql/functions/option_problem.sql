-- What is wrong with the options that few enqueues give, in one sentence; null when nothing is. Sizes are in bytes.
-- Apart from call_problem, because plpgsql prepares each expression anew in every transaction that comes to it: for one
-- enqueue in a transaction these took 2.4 of 43 µs.
create or replace function jobrunner.option_problem(
    run_at timestamptz, delay interval, key text, unique_key text, subject text, unique_until text
)
returns text
language sql
stable
as $$
    select case
        when octet_length(key) not between 1 and 512 or key ~ '[[:cntrl:]]'
            then 'key must have 1 to 512 bytes and no control character'
        when octet_length(unique_key) not between 1 and 512 or unique_key ~ '[[:cntrl:]]'
            then 'unique_key must have 1 to 512 bytes and no control character'
        when octet_length(subject) not between 1 and 512 or subject ~ '[[:cntrl:]]'
            then 'subject must have 1 to 512 bytes and no control character'
        when run_at is not null and delay is not null
            then 'give run_at or delay, not both'
        when delay < interval '0' or delay > interval '5 years'
            then 'delay must be between 0 and 5 years'
        when run_at > now() + interval '5 years' or run_at < '0001-01-02 00:00:00+00'
            then 'run_at must be within 5 years'
        when unique_until is null or unique_until not in ('start', 'finish')
            then 'unique_until must be start or finish'
    end
$$;
