-- How the subscription that is there differs from what the code declares; null when there is none. Changes nothing.
select (
    select coalesce(jsonb_object_agg(n.key, jsonb_build_object('is', o.value, 'wanted', n.value)), '{}')
    from jsonb_each(jobrunner.subscription_spec(%(spec)s)) n
    join jsonb_each(to_jsonb(s)) o on o.key = n.key
    where o.value is distinct from n.value
)
from jobrunner.subscriptions s
where s.name = %(name)s
