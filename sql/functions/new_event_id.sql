-- A version 7 UUID: the time in milliseconds, then chance, so that ids of one time lie together in an index. PostgreSQL 18 has
-- uuidv7(); this is the same for 14 to 17.
create or replace function jobrunner.new_event_id()
returns uuid
language sql
volatile
as $$
    select encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                    from 1 for 6
                ),
                52, 1
            ),
            53, 1
        ),
        'hex'
    )::uuid
$$;
