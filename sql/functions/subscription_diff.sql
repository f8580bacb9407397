-- How the subscription that is there differs from _spec (subscribe_v1): {} when it does not, null when there is none.
create or replace function jobrunner.subscription_diff(_name text, _spec jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    return (
        select (
            select coalesce(jsonb_object_agg(n.key, jsonb_build_object('is', o.value, 'wanted', n.value)), '{}')
            from jsonb_each(jobrunner.subscription_spec(_spec)) n
            join jsonb_each(to_jsonb(s)) o on o.key = n.key
            where o.value is distinct from n.value
        )
        from jobrunner.subscriptions s
        where s.name = _name
    );
end
$$;
