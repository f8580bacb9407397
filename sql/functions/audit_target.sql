-- How an audit row names the jobs of one change: the first hundred ids.
create or replace function jobrunner.audit_target(_ids bigint[])
returns text
language sql
immutable
as $$
    select 'job ' || array_to_string(_ids[1:100], ', ') || case when cardinality(_ids) > 100 then ', …' else '' end
$$;
