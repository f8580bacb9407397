-- What is wrong with these arguments of enqueue, in one sentence; null when nothing is. Sizes are in bytes.
create or replace function jobrunner.enqueue_problem(
    task text, args jsonb, queue text, run_at timestamptz, delay interval, key text, unique_key text, subject text,
    version smallint, max_attempts integer, headers jsonb, unique_until text
)
returns text
language sql
stable
as $$
    select case
        when task is null or octet_length(task) not between 1 and 200 or task ~ '[[:cntrl:]]'
            then 'task must have 1 to 200 bytes and no control character'
        when octet_length(queue) not between 1 and 200 or queue ~ '[[:cntrl:]]'
            then 'queue must have 1 to 200 bytes and no control character'
        when octet_length(key) not between 1 and 512 or key ~ '[[:cntrl:]]'
            then 'key must have 1 to 512 bytes and no control character'
        when octet_length(unique_key) not between 1 and 512 or unique_key ~ '[[:cntrl:]]'
            then 'unique_key must have 1 to 512 bytes and no control character'
        when octet_length(subject) not between 1 and 512 or subject ~ '[[:cntrl:]]'
            then 'subject must have 1 to 512 bytes and no control character'
        when args is null or jsonb_typeof(args) <> 'object'
            then 'args must be a JSON object, the task''s parameters by name'
        when headers is null or jsonb_typeof(headers) <> 'object'
            then 'headers must be a JSON object'
        when pg_column_size(args) + pg_column_size(headers) > 1048576
            then 'args and headers are larger than 1 MB: store the data and pass a reference'
        when run_at is not null and delay is not null
            then 'give run_at or delay, not both'
        when delay < interval '0' or delay > interval '5 years'
            then 'delay must be between 0 and 5 years'
        when run_at > now() + interval '5 years'
            then 'run_at must be within 5 years'
        when version < 1
            then 'version must be between 1 and 32767'
        when max_attempts not between 1 and 1000
            then 'max_attempts must be between 1 and 1000'
        when unique_until is null or unique_until not in ('start', 'finish')
            then 'unique_until must be start or finish'
    end
$$;
