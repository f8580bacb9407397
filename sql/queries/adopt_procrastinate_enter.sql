-- Until the end of the transaction procrastinate's tables are found without their schema: by the statements here, and by its own triggers.
select
    set_config('search_path', quote_ident(%(schema)s) || ', pg_temp', true),
    set_config('lock_timeout', '2s', true)
