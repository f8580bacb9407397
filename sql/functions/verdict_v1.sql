-- What became of settlements that were not accepted: settled (an earlier try got through), busy (someone holds the row: send
-- it again) or stale (the claim is no longer this one's: nothing will change any more).
create or replace function jobrunner.verdict_v1(_runner bigint, _ids bigint[], _attempts integer[])
returns table (id bigint, verdict text)
language sql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
    select
        f.id,
        case
            when exists (select from jobrunner.jobs j where j.id = f.id and j.attempt = f.attempt and j.runner_id + 0 = _runner) then 'busy'
            when exists (
                select
                from jobrunner.finished_jobs d
                where d.id = f.id
                    and d.attempt = f.attempt
                    and d.state = 'succeeded'     -- a person may have cancelled it after it was given back
                    and d.finished_at > now() - interval '1 hour'
            ) then 'settled'
            when exists (
                select
                from jobrunner.jobs j
                where j.id = f.id
                    and j.attempt = f.attempt
                    and j.state = 'succeeded'
            ) then 'settled'
            when exists (
                select
                from jobrunner.attempts a
                where a.job_id = f.id
                    and a.attempt = f.attempt
                    and a.runner_id = _runner
                    and a.outcome <> 'crashed'
                    and (a.outcome <> 'handed_back' or a.reason is null or a.reason not in ('stopped', 'renewed'))
            ) then 'settled'
            else 'stale'
        end
    from unnest(_ids, _attempts) f (id, attempt)
$$;
