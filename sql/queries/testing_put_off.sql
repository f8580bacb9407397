-- What a run enqueued for later while a test's clock was ahead: it counts from that clock.
update jobrunner.jobs j
set run_at = j.run_at + %(ahead)s,
    created_at = j.created_at + %(ahead)s
where j.id > %(after)s
    and j.state = 'scheduled'
