-- Who holds an old snapshot? While it is held, dead rows stay and every table of this database grows.
-- To end one: select pg_terminate_backend(PID); a prepared transaction: rollback prepared 'NAME'; a slot: select pg_drop_replication_slot('NAME').
select b.kind, b.pid, b.name, date_trunc('second', b.age) as age, b.xmin_age, b.role, b.application, b.query_head
from jobrunner.v_blocker b
order by b.xmin_age desc nulls last
limit 20;
