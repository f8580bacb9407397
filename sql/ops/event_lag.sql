-- Which subscriptions are behind, how far, and why? To start a paused one: select jobrunner.op_resume_subscription('NAME');
select
    s.name,
    case when s.paused_at is not null then 'paused' else s.state end as state,
    s.mode,
    s.lag_events,
    date_trunc('second', s.lag) as lag,
    s.ready,
    s.retrying,
    s.blocked,
    s.running,
    s.dead,
    s.blocked_keys,
    s.replaying,
    s.pause_reason
from jobrunner.v_subscription s
order by s.lag desc nulls last, s.name;
