-- Declares those of procrastinate's workers lost that have not beaten for _seconds, and every runner that its own time says so of;
-- what they held goes back. Returns the ids of the former.
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
            and x.beat_at < now() - make_interval(secs => _seconds)
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
