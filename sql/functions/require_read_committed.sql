-- Refuses to go on in another isolation level: the functions that call it lock in one snapshot and decide in a later one.
create or replace function jobrunner.require_read_committed()
returns void
language plpgsql
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'jobrunner: this function needs READ COMMITTED, the transaction is %', upper(current_setting('transaction_isolation'))
            using errcode = 'JR002', hint = 'Call it in a transaction of its own.';
    end if;
end
$$;
