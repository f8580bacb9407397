-- Carries over the last tick of each periodic task; how many were new here.
select jobrunner.procrastinate_adopt_marks_v1((
    select coalesce(jsonb_agg(jsonb_build_object('task', p.task_name, 'name', p.periodic_id, 'tick', p.defer_timestamp)), '[]')
    from procrastinate_periodic_defers p
    where p.defer_timestamp is not null
))
