-- The correlation id of the tree that begins with a job: a version 8 UUID that has the job's id in its last 62 bits.
create or replace function jobrunner.job_correlation(_id bigint)
returns uuid
language sql
immutable
strict
as $$
    select ('6f8d1b1e6b4e8e63' || to_hex(_id | (-9223372036854775808)))::uuid
$$;
