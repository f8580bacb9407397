-- Who keeps dead rows in every table for longer than %(longer)s: open transactions, prepared ones, replication slots.
select b.pid, b.kind, b.name, b.age, b.xmin_age, b.role, b.application, b.query_head
from jobrunner.v_blocker b
where b.kind = 'slot'
    or b.age > %(longer)s
order by b.age desc nulls last, b.pid
