-- Begins to undo a running saga, for its own step (save_saga_v1) and for a person (op_saga_compensate) alike: the jobs of its stack are
-- enqueued in reverse under one key, so that they run one after another, and behind them the saga's own job that says that it is done.
-- on_dead: a compensation that dies keeps the key, and the rest waits for a person. Returns how many jobs undo it (with none it is
-- compensated at once); null when it does not run.
create or replace function jobrunner.compensate_saga_v1(_name text, _key text, _reason text)
returns integer
language plpgsql
as $$
declare
    _stack  jsonb;
    _tree   uuid;
    _line   text := 'saga ' || _name || ' ' || _key;
    _beside jsonb;
begin
    update jobrunner.sagas s
    set status = case when s.compensation = '[]' then 'compensated' else 'compensating' end,
        finished_at = case when s.compensation = '[]' then clock_timestamp() end,
        reason = _reason,
        timeout_at = null,
        updated_at = clock_timestamp()
    where s.name = _name
        and s.key = _key
        and s.status = 'running'
    returning s.compensation, s.correlation_id into _stack, _tree;
    if not found then
        return null;
    end if;
    if _stack = '[]' then
        return 0;
    end if;

    _beside := jsonb_build_object('on_dead', 'block_key', 'correlation_id', _tree);
    perform jobrunner.enqueue_many((
        select jsonb_agg(u.job || jsonb_build_object('key', _line, 'correlation_id', _tree) order by u.n desc)
        from (
            select p.job || jsonb_build_object('headers', coalesce(p.job -> 'headers', '{}') || _beside) as job, p.n
            from jsonb_array_elements(_stack) with ordinality p (job, n)
            union all
            select jsonb_build_object('task', _name, 'args', '{"compensated": true}'::jsonb, 'version', 1, 'headers', _beside), 0
        ) u
    ));
    return jsonb_array_length(_stack);
end
$$;
