-- Everything that undoes a saga has run: a row, or none when it does not compensate.
update jobrunner.sagas s
set status = 'compensated',
    updated_at = clock_timestamp(),
    finished_at = clock_timestamp()
where s.name = %(name)s
    and s.key = %(key)s
    and s.status = 'compensating'
returning true
