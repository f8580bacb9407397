-- Patterns of event types as one regular expression over '.' || type, by AMQP's rules for topics: words parted by dots, * is one
-- word, # none or more. What jobrunner publishes itself is matched only by a pattern that begins with the word jobrunner. Anything
-- else is refused (JR003): a broken expression in one subscription would stop the whole log.
create or replace function jobrunner.topic_pattern(_types text[])
returns text
language plpgsql
immutable
strict
as $$
declare
    _type text;
begin
    if _types = '{}' then
        raise exception 'jobrunner: name at least one type of event, or #' using errcode = 'JR003';
    end if;
    foreach _type in array _types loop
        if _type is null or octet_length(_type) > 200 or _type !~ '^([A-Za-z0-9_-]+|\*|#)(\.([A-Za-z0-9_-]+|\*|#))*$' then
            raise exception 'jobrunner: % is no pattern of event types: words of letters, digits, _ and -, or * or #, with dots between them, like order.*',
                coalesce(quote_literal(_type), 'null')
                using errcode = 'JR003';
        end if;
    end loop;
    return (
        select string_agg(
            format(
                '^%s%s$',
                case when split_part(t.type, '.', 1) <> 'jobrunner' then '(?!\.jobrunner(\.|$))' end,
                (
                    select string_agg(case w.word when '*' then '\.[^.]+' when '#' then '(\.[^.]+)*' else '\.' || w.word end, '' order by w.n)
                    from string_to_table(t.type, '.') with ordinality w (word, n)
                )
            ),
            '|'
            order by t.n
        )
        from unnest(_types) with ordinality t (type, n)
    );
end
$$;
