-- Declares those of procrastinate's workers lost that have not beaten for _seconds, and every runner that its own time says so of;
-- what they held goes back. Returns the ids of the former. A worker that beats seldom has a longer time than the usual 30 s, and
-- whoever starts beside it and does not know that must not rob it between two beats.
create or replace function jobrunner.procrastinate_prune_v1(_seconds double precision)
returns bigint[]
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    update jobrunner.runners r
    set ttl = least(r.ttl, make_interval(secs => _seconds))
    where r.id = any (array(
        select x.id
        from jobrunner.runners x
        where x.app = 'procrastinate'
            and x.lost_at is null
            and x.beat_at < now() - greatest(make_interval(secs => _seconds), case when x.ttl > interval '30 s' then x.ttl end)
        for no key update skip locked
    ));
    perform jobrunner.rescue_v1(500);
    return array(
        select r.id
        from jobrunner.runners r
        where r.app = 'procrastinate'
            and r.ended = 'lost'
            and r.lost_at = now()
    );
end
$$;
