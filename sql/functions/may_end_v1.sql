-- Of these jobs, all held FOR UPDATE by the caller, without those of _ending that may not end now: an end that has a turn to pass
-- on needs the next in line locked as well. It waits for nobody, because that row may be held for as long as a user's transaction
-- lasts: by an enqueue that its unique key turned away (for share), or by a person in psql. What is not returned is to be left for
-- later: begun, such a job would be dead, and hold its key.
create or replace function jobrunner.may_end_v1(_ids bigint[], _ending bigint[])
returns bigint[]
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    _holders bigint[];
    _nexts   bigint[];
    _locked  bigint[];
begin
    _ending := array(select i.id from unnest(_ids) i (id) where i.id = any (_ending));
    if _ending = '{}' then
        return _ids;
    end if;
    select array_agg(me.id), array_agg(n.id)
    into _holders, _nexts
    from jobrunner.jobs me
    cross join lateral (
        select w.id
        from jobrunner.jobs w
        where w.key = me.key
            and w.blocked_on = 'key'
            and w.key_pos > me.key_pos
        order by w.key_pos
        limit 1
    ) n
    where me.id = any (_ending)
        and me.holds_key;
    if _holders is null then
        return _ids;
    end if;

    select coalesce(array_agg(l.id), '{}')
    into _locked
    from (
        select w.id
        from jobrunner.jobs w
        where w.id = any (_nexts)
            and w.blocked_on = 'key'
        order by w.id
        for no key update skip locked
    ) l;
    return array(
        select i.id
        from unnest(_ids) i (id)
        where not exists (
            select
            from unnest(_holders, _nexts) h (id, next)
            where h.id = i.id
                and h.next <> all (_locked)
        )
    );
end
$$;
