-- Is there work for these tasks that is due: ready, running, arriving, waiting for its turn, or scheduled and due?
select exists (
    select
    from jobrunner.jobs j
    where j.task = any (%(tasks)s::text[])
        and (
            j.state in ('ready', 'running', 'succeeded')
            or j.blocked_on in ('arrival', 'key')
            or (j.state = 'scheduled' and j.run_at <= now())
        )
)
