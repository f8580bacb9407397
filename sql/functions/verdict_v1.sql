-- What became of settlements that were not accepted: settled (an earlier try got through), busy (someone holds the row: send
-- it again) or stale (the claim is no longer this one's: nothing will change any more).
create or replace function jobrunner.verdict_v1(_runner bigint, _ids bigint[], _attempts integer[])
returns table (id bigint, verdict text)
language sql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
    select
        f.id,
        case
            when j.attempt = f.attempt and j.runner_id = _runner then 'busy'
            when j.attempt = f.attempt and j.state = 'succeeded' then 'settled'           -- in place
            when d.attempt = f.attempt and d.state = 'succeeded' then 'settled'           -- a person may have cancelled it since
            when a.runner_id = _runner and (a.outcome <> 'crashed' or a.reason is distinct from 'lost')
                and (a.outcome <> 'handed_back' or a.reason is null or a.reason not in ('stopped', 'renewed')) then 'settled'
            else 'stale'
        end
    from unnest(_ids, _attempts) f (id, attempt)
    left join lateral (select x.attempt, x.runner_id, x.state from jobrunner.jobs x where x.id = f.id limit 1) j on true
    left join jobrunner.attempts a on a.job_id = f.id and a.attempt = f.attempt
    left join lateral (
        select x.attempt, x.state
        from jobrunner.finished_jobs x
        where x.id = f.id
            and x.finished_at > now() - interval '1 hour'
        limit 1
    ) d on true
$$;
