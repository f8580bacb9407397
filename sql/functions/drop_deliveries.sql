-- Gives up the open deliveries of a subscription (of one walk over the log, with _replay): what waits is cancelled, what is dead
-- discarded, what runs is left alone. Returns how many. Reads all of jobs once. Waits for the seat step: it holds the arrivals that it
-- seats, and those would stay.
create or replace function jobrunner.drop_deliveries(_subscription text, _replay bigint, _actor text, _reason text)
returns integer
language plpgsql
as $$
declare
    _waiting bigint[];
    _dead    bigint[];
    _gone    integer := 0;
begin
    perform pg_advisory_xact_lock(727001);
    select
        coalesce(array_agg(j.id) filter (where j.state <> 'dead'), '{}'),
        coalesce(array_agg(j.id) filter (where j.state = 'dead'), '{}')
    into _waiting, _dead
    from jobrunner.jobs j
    where j.task = _subscription
        and j.state in ('scheduled', 'ready', 'blocked', 'dead')
        and (_replay is null or j.headers @> jsonb_build_object('replay', _replay));
    if _waiting <> '{}' then
        _gone := (select count(*) from jobrunner.op_cancel(_waiting, _actor, _reason) c where c.result = 'cancelled');
    end if;
    if _dead <> '{}' then
        _gone := _gone + cardinality(jobrunner.op_discard(_dead, _actor, _reason));
    end if;
    return _gone;
end
$$;
