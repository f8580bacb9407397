-- What is wrong with an event, in one sentence; null when nothing is. Sizes are in bytes.
create or replace function jobrunner.event_problem(
    type text, data jsonb, version smallint, key text, subject text, headers jsonb, source text
)
returns text
language sql
stable
as $$
    select case
        when type is null or octet_length(type) > 200 or type !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$'
            then 'type must be words of letters, digits, _ and -, with dots between them, like order.paid, at most 200 bytes'
        when starts_with(type, 'jobrunner.') or type = 'jobrunner'
            then 'types that begin with jobrunner. belong to jobrunner itself'
        when data is null or jsonb_typeof(data) <> 'object'
            then 'data must be a JSON object'
        when headers is null or jsonb_typeof(headers) <> 'object'
            then 'headers must be a JSON object'
        when case                                -- as in call_problem
            when num_nonnulls(pg_column_compression(data), pg_column_compression(headers)) > 0
                then octet_length(data::text) + octet_length(headers::text)
            else pg_column_size(data) + pg_column_size(headers)
        end > 1048576
            then 'data and headers are larger than 1 MB: store the data and publish a reference'
        when version is null or version < 1
            then 'version must be between 1 and 32767'
        when octet_length(key) not between 1 and 512 or key ~ '[[:cntrl:]]'
            then 'key must have 1 to 512 bytes and no control character'
        when octet_length(subject) not between 1 and 512 or subject ~ '[[:cntrl:]]'
            then 'subject must have 1 to 512 bytes and no control character'
        when octet_length(source) > 512 or source ~ '[[:cntrl:]]'
            then 'source must have at most 512 bytes and no control character'
    end
$$;
