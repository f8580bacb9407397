-- JR005 when there is no subscription of this name.
create or replace function jobrunner.require_subscription(_name text)
returns void
language plpgsql
stable
as $$
begin
    if not exists (select from jobrunner.subscriptions s where s.name = _name) then
        raise exception 'jobrunner: there is no subscription %', _name using errcode = 'JR005';
    end if;
end
$$;
