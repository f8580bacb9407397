-- How far jobs are, many at a time: _rows is an array of {id, total, processed, failed, message}; null keeps what is there.
create or replace function jobrunner.write_progress_v1(_rows jsonb)
returns void
language plpgsql
security definer
set search_path = pg_catalog, jobrunner, pg_temp
as $$
begin
    insert into jobrunner.job_progress as p (job_id, total, processed, failed, message)
    select r.id, r.total, coalesce(r.processed, 0), coalesce(r.failed, 0), r.message
    from jsonb_to_recordset(_rows) as r (id bigint, total bigint, processed bigint, failed bigint, message text)
    order by r.id
    on conflict (job_id) do update
    set total = coalesce(excluded.total, p.total),
        processed = excluded.processed,
        failed = excluded.failed,
        message = coalesce(excluded.message, p.message),
        updated_at = clock_timestamp();
end
$$;
