-- Which one fault caused most of the dead jobs? Numbers in the errors are read as one.
select
    j.task,
    regexp_replace(left(j.error, 120), '[0-9]+', 'N', 'g') as error,
    count(*) as jobs,
    min(j.finished_at) as first_at,
    max(j.finished_at) as last_at,
    max(j.id) as sample
from jobrunner.jobs j
where j.state = 'dead'
    and j.finished_at is not null
group by 1, 2
order by jobs desc
limit 30;
