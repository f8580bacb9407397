-- Which walks over the log are under way, how far are they, and which ended lately? To stop one: select jobrunner.op_cancel_replay(ID);
select
    r.id, r.subscription, r.kind, r.state, r.processed, r.total, r.percentage, r.rate, r.estimated_completion, r.message, r.actor, r.reason
from jobrunner.v_replay r
order by r.state = 'running' desc, r.id desc
limit 30;
