-- What a drain must know before its next step: the clock, how far it is to the next scheduled job of its tasks, the last id of a job, and
-- the classes (queue, priority) with a ready job, in the order in which they are asked, each with where its first one stands.
select
    c.at,
    (select min(j.run_at) from jobrunner.jobs j where j.state = 'scheduled' and j.task = any (%(tasks)s)) - c.at,
    coalesce(pg_sequence_last_value('jobrunner.jobs_id_seq'), 0),
    k.queues,
    k.priorities,
    k.seqs
from (select clock_timestamp() as at) c
cross join (
    select
        coalesce(array_agg(r.queue order by r.priority desc, r.seq), '{}') as queues,
        coalesce(array_agg(r.priority order by r.priority desc, r.seq), '{}') as priorities,
        coalesce(array_agg(r.seq order by r.priority desc, r.seq), '{}') as seqs
    from (
        select j.queue, j.priority, min(j.seq) as seq
        from jobrunner.jobs j
        where j.state = 'ready'
            and j.task = any (%(tasks)s)
        group by j.queue, j.priority
    ) r
) k
