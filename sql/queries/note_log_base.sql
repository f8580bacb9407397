-- Where the log stood, written before a part of it is dropped: positions go on from there. Only the last one is kept.
with noted as (
    insert into jobrunner.log_base (position, recorded_at)
    values (%(position)s, %(recorded_at)s)
    on conflict (position) do nothing
)
delete from jobrunner.log_base b
where b.position < %(position)s
