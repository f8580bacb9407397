-- Who may call what. `jobrunner migrate` runs this in the transaction that makes the functions, and `jobrunner sql roles` prints it:
-- so a function is never open to PUBLIC, and never closed to a role that needs it. Where the schema does not belong to
-- jobrunner_owner (a database without roles) it takes the rights of PUBLIC, and grants nothing.
-- A function that is not named here is called inside others only. What a role may call runs with the rights of the owner, so it is
-- SECURITY DEFINER with a search path of its own.
do $$
declare
    _schema constant regnamespace := to_regnamespace('jobrunner');
    _one    record;
begin
    if _schema is null then
        return;
    end if;
    revoke all on all functions in schema jobrunner from public;
    if (select n.nspowner from pg_namespace n where n.oid = _schema) is distinct from to_regrole('jobrunner_owner')::oid then
        return;
    end if;

    revoke all on all functions in schema jobrunner from jobrunner_enqueue, jobrunner_runner, jobrunner_reader, jobrunner_operator;
    grant usage on schema jobrunner to jobrunner_enqueue, jobrunner_runner, jobrunner_reader, jobrunner_operator;
    for _one in
        select p.oid::regprocedure as function, g.role
        from (
            values
                ('jobrunner_enqueue', 'enqueue enqueue_many publish publish_many procrastinate_defer_v1'),
                -- A runner's life, claims and settlements; a handler's transaction.
                ('jobrunner_runner', 'schema_version register_v1 register_v2 beat_v1 adopt_v1 stop_v1 crashed_v1'),
                ('jobrunner_runner', 'tick_v1 claim_v1 finish_v1 settle_v1 verdict_v1 depart_v1 undeparted_v1 sweep_v1 is_busy_v1'),
                ('jobrunner_runner', 'fence_v1 finish_in_place_v1 write_progress_v1 take_message_v1 entity_events_v1'),
                ('jobrunner_runner', 'lock_saga_v1 save_saga_v1 end_compensation_v1'),
                -- What every runner does for all of them: rescue, events, retention.
                ('jobrunner_runner', 'rescue_v1 park_v1 unpark_v1 repair_keys_v1 make_partitions'),
                ('jobrunner_runner', 'outbox_waits_v1 sequence_v1 replay_step_v1 subscribe_v1 position_at'),
                ('jobrunner_runner', 'load_deliveries_v1 stream_batch_v1 advance_stream_v1'),
                ('jobrunner_runner', 'drop_dead_v1 drop_leftovers_v1 drop_event_leftovers_v1'),
                ('jobrunner_runner', 'old_partitions_v1 free_day_v1 detach_day_v1 forget_day_v1 drop_day_v1'),
                -- procrastinate's front end: its workers, and what its users may do and see in their code.
                ('jobrunner_runner', 'procrastinate_defer_periodic_v1 procrastinate_finish_v1 procrastinate_retry_v1 procrastinate_cancel_v1'),
                ('jobrunner_runner', 'procrastinate_prune_v1 procrastinate_to_abort_v1 procrastinate_ready_tasks_v1 procrastinate_delete_old_v1'),
                ('jobrunner_runner', 'procrastinate_jobs_v1 procrastinate_counts_v1 procrastinate_stalled_v1'),
                ('jobrunner_reader', 'schema_version why trace known_tasks listeners subscription_diff replay_open'),
                ('jobrunner_reader', 'position_at topic_pattern retention'),
                ('jobrunner_operator', 'op_requeue op_cancel op_discard op_retry_now op_reschedule op_pause op_resume'),
                ('jobrunner_operator', 'op_pause_subscription op_resume_subscription op_remove_subscription op_skip op_resolve_key'),
                ('jobrunner_operator', 'op_replay op_cancel_replay op_saga_compensate op_saga_complete'),
                ('jobrunner_operator', 'apply_subscription subscribe_v1 repair_keys_v1 make_partitions')
        ) g (role, names)
        join pg_proc p on p.pronamespace = _schema and p.proname = any (string_to_array(g.names, ' '))
    loop
        execute format('grant execute on function %s to %I', _one.function, _one.role);
    end loop;
    for _one in
        select c.oid::regclass as view
        from pg_class c
        where c.relnamespace = _schema
            and c.relkind = 'v'
            and c.relname like 'v\_%'
    loop
        execute format('grant select on %s to jobrunner_reader', _one.view);
    end loop;
end
$$;
