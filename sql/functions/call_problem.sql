-- What is wrong with what every enqueue gives, in one sentence; null when nothing is. Sizes are in bytes.
create or replace function jobrunner.call_problem(
    task text, args jsonb, queue text, version smallint, max_attempts integer, headers jsonb
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
        when args is null or jsonb_typeof(args) <> 'object'
            then 'args must be a JSON object, the task''s parameters by name'
        when headers is null or jsonb_typeof(headers) <> 'object'
            then 'headers must be a JSON object'
        -- Of a compressed value (read from a table), pg_column_size is the compressed size: 20 MB counted as 230 kB.
        when case
            when num_nonnulls(pg_column_compression(args), pg_column_compression(headers)) > 0
                then octet_length(args::text) + octet_length(headers::text)
            else pg_column_size(args) + pg_column_size(headers)
        end > 1048576
            then 'args and headers are larger than 1 MB: store the data and pass a reference'
        when version < 1
            then 'version must be between 1 and 32767'
        when max_attempts not between 1 and 1000
            then 'max_attempts must be between 1 and 1000'
    end
$$;
