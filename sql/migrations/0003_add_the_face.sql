-- Version 3: what services and people look at from outside.

-- ---------------------------------------------------------------------- what a runner says of itself
alter table jobrunner.runners
    add column poll interval,
    add column schema_oldest integer,
    add column schema_newest integer;

create or replace view jobrunner.v_runner as
select
    r.id as runner, r.app, r.host, r.pid, r.version, r.queues, r.slots, r.busy, r.listening, r.started_at,
    now() - r.beat_at as beat_age,
    case
        when r.ended is not null then r.ended
        when r.beat_at < now() - r.ttl then 'silent'
        else 'alive'
    end as state,
    r.poll, r.schema_oldest, r.schema_newest
from jobrunner.runners r;

insert into jobrunner.settings (name, value)
values ('schema_serves', '2');
