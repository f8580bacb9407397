-- jobrunner: the whole schema, in reading order. PostgreSQL 14 to 18, no extension.
--
-- WHAT IS HERE
--   jobs ............. every job that is not over, and the dead ones; one row a job, one state column
--   finished_jobs .... succeeded and cancelled jobs, one partition a day (UTC), dropped when they are old
--   attempts ......... one row for each start that did not succeed: what failed, when, on which runner
--   runners .......... one row a process that claims; runner_tasks: which tasks (and versions) it knows
--   tasks ............ what enqueue needs to know of a task: queue, priority, limit of attempts
--   queues ........... queues that somebody paused or described (a queue needs no row to exist)
--   unique_keys ...... who holds a unique key, until the start or the finish of its job
--   narrow side tables, written only by the jobs that use them: job_links (subject, causes), job_progress,
--   job_results, cancel_requests
--   settings, audit .. versions and retention; what people changed, who and when
--
-- THE STATES OF A JOB                     (the same machine: jobrunner/policy/lifecycle.py)
--
--     enqueue ──► scheduled ──promote──► ready ──claim──► running ──settle──► succeeded ─┐
--        │            ▲  ▲                 ▲                │  │  └─────────► cancelled ─┴─► finished_jobs
--        │            │  └──retry, snooze──┼────────────────┘  └────────────► dead ──requeue──► ready
--        │ key        │                    │                   │
--        └──────► blocked ──seat, turn─────┘◄──rescue, hand back
--                 blocked_on says behind what: arrival (not yet seated), key (its turn comes), task (no live
--                 runner knows it); parents and limit are kept for later
--
-- THE LOCK ORDER
--   runners → jobs (ascending id) → unique_keys → finished_jobs. Whoever may meet another takes jobs with SKIP LOCKED.
--   Two places wait for a row on purpose: enqueue with a taken unique key (for share of the job that holds it), and an
--   in-place finish for its own row. Who ends the holder of a key locks the next in line too, or leaves it for later.
--   Advisory locks (transaction): 727001 seat, 727002 migrate, 727003 make partitions.
--
-- Functions are in functions/ (those of runners versioned by name; op_* are people's); this file holds what stores.

create schema jobrunner;

-- The order in which jobs became ready. The transaction id is taken first and the number second: so a transaction that
-- is not yet in progress can only draw higher numbers, and a claimer knows below which number nothing can appear
-- any more (docs/design.md, the claim floor). CASE fixes the order; cache 1 keeps it true across sessions.
create sequence jobrunner.stamp cache 1;
select nextval('jobrunner.stamp');               -- a fresh one reads 1 as well: the first job would lie below the first floor

create function jobrunner.stamp()
returns bigint
language sql
volatile
as $$
    select case when pg_current_xact_id() is not null then nextval('jobrunner.stamp') end
$$;

-- Places in the line of a key, given by the seat step only.
create sequence jobrunner.key_seq cache 1;

-- "Somebody may sleep here until …" in epoch milliseconds, one flag for each of 16 buckets of queue names.
-- Sequences, because their value is seen at once in every isolation level and leaves no dead rows.
create sequence jobrunner.asleep_0 minvalue 0 start 0;
create sequence jobrunner.asleep_1 minvalue 0 start 0;
create sequence jobrunner.asleep_2 minvalue 0 start 0;
create sequence jobrunner.asleep_3 minvalue 0 start 0;
create sequence jobrunner.asleep_4 minvalue 0 start 0;
create sequence jobrunner.asleep_5 minvalue 0 start 0;
create sequence jobrunner.asleep_6 minvalue 0 start 0;
create sequence jobrunner.asleep_7 minvalue 0 start 0;
create sequence jobrunner.asleep_8 minvalue 0 start 0;
create sequence jobrunner.asleep_9 minvalue 0 start 0;
create sequence jobrunner.asleep_10 minvalue 0 start 0;
create sequence jobrunner.asleep_11 minvalue 0 start 0;
create sequence jobrunner.asleep_12 minvalue 0 start 0;
create sequence jobrunner.asleep_13 minvalue 0 start 0;
create sequence jobrunner.asleep_14 minvalue 0 start 0;
create sequence jobrunner.asleep_15 minvalue 0 start 0;

-- ---------------------------------------------------------------------------------------------------------- jobs
-- Wide columns first and text last: no padding, 40 bytes a row less. Names compare by bytes (collate "C"), as Python sorts them.
create table jobrunner.jobs (
    id           bigint      not null generated always as identity,
    seq          bigint      not null default jobrunner.stamp(),   -- drawn anew at every change to ready
    run_at       timestamptz not null default now(),               -- orders scheduled jobs only
    created_at   timestamptz not null default clock_timestamp(),
    started_at   timestamptz,                                      -- of the latest attempt
    finished_at  timestamptz,
    runner_id    bigint,
    key_pos      bigint,                                           -- the place in the line of its key
    attempt      integer     not null default 0,                   -- starts; the fence; never falls
    failures     integer     not null default 0,                   -- what max_attempts bounds
    max_attempts integer     not null default 10,
    crashes      smallint    not null default 0,                   -- runners lost under it
    version      smallint    not null default 1,                   -- of the arguments
    priority     smallint    not null default 0,                   -- larger runs first
    holds_key    boolean     not null default false,
    state        text collate "C" not null default 'ready',
    queue        text collate "C" not null default 'default',
    task         text collate "C" not null,
    key          text collate "C",
    blocked_on   text collate "C",
    unique_until text collate "C",                                 -- start | finish: it has a row in unique_keys
    args         jsonb       not null default '{}',
    headers      jsonb       not null default '{}',
    reason       text,                                             -- one word on why it is in this state
    error        text,                                             -- the last failure in one line; attempts has the rest

    constraint jobs_pkey primary key (id),
    constraint jobs_state_known check (state in ('scheduled', 'ready', 'blocked', 'running', 'succeeded', 'dead', 'cancelled')),
    constraint jobs_finished_at check ((finished_at is not null) = (state in ('succeeded', 'dead', 'cancelled'))),
    constraint jobs_runner_id check ((runner_id is not null) = (state = 'running')),
    constraint jobs_blocked_on check ((blocked_on is not null) = (state = 'blocked')),
    constraint jobs_blocked_on_known check (blocked_on in ('arrival', 'key', 'parents', 'limit', 'task')),
    constraint jobs_counters check (failures between 0 and max_attempts and attempt >= failures and crashes >= 0),
    constraint jobs_holds_key check (not holds_key or (key is not null and key_pos is not null)),
    constraint jobs_key_in_turn check (key is null or holds_key or state not in ('ready', 'running')),
    constraint jobs_key_line check (
        blocked_on is null
        or blocked_on not in ('arrival', 'key')
        or (key is not null and not holds_key and (blocked_on = 'key') = (key_pos is not null))
    ),
    constraint jobs_unique_until check (unique_until in ('start', 'finish'))
) with (
    fillfactor = 85,                             -- room for the version that the claim writes
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000
);
-- Every index on jobs is paid for by every change of state: these and no others (docs/design.md has the price).
create index jobs_ready on jobrunner.jobs (queue, priority desc, seq) where state = 'ready';           -- claim_v1
create index jobs_due on jobrunner.jobs (run_at) where state = 'scheduled';                            -- promote_v1
create index jobs_running on jobrunner.jobs (runner_id) where state = 'running';                       -- give_back_v1, beat_v1
create index jobs_arrived on jobrunner.jobs (seq) where blocked_on = 'arrival';                        -- seat_v1
create index jobs_waiting on jobrunner.jobs (key, key_pos) where blocked_on = 'key';                   -- may_end_v1, depart_v1
create index jobs_holding on jobrunner.jobs (key, key_pos) where holds_key;                            -- seat_v1
create index jobs_parked on jobrunner.jobs (task, version) where blocked_on = 'task';                  -- unpark_v1
create index jobs_ended on jobrunner.jobs (state, finished_at) where finished_at is not null;          -- sweep_v1, dead lists

-- History. A partition a UTC day, finished_jobs_pYYYYMMDD, made ahead by every runner and on demand by whoever settles;
-- no default partition, because that would forbid DETACH CONCURRENTLY, and a plain DROP stalls every settle.
create table jobrunner.finished_jobs (
    id           bigint      not null,
    run_at       timestamptz not null,
    created_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz not null,
    runner_id    bigint,                                           -- null: finished in place, or cancelled before a start
    attempt      integer     not null,
    failures     integer     not null,
    max_attempts integer     not null,
    crashes      smallint    not null,
    version      smallint    not null,
    priority     smallint    not null,
    state        text collate "C" not null,
    queue        text collate "C" not null,
    task         text collate "C" not null,
    key          text collate "C",
    args         jsonb       not null,
    headers      jsonb       not null,
    reason       text,
    error        text,
    constraint finished_jobs_state_known check (state in ('succeeded', 'cancelled'))
) partition by range (finished_at);
create index finished_jobs_id on jobrunner.finished_jobs (id);
create index finished_jobs_at on jobrunner.finished_jobs using brin (finished_at);     -- what ended lately; next to nothing to keep

create table jobrunner.attempts (
    job_id     bigint      not null,
    attempt    integer     not null,
    runner_id  bigint,
    started_at timestamptz,
    ended_at   timestamptz not null default now(),
    outcome    text        not null,             -- failed, timeout, retried, snoozed, crashed, handed_back, …
    reason     text,
    error_type text,
    message    text,
    traceback  text,
    constraint attempts_pkey primary key (job_id, attempt)
);

-- ------------------------------------------------------------------------------------------------------- runners
-- A runner that is gone stays a day as a tombstone (lost_at): a claim that commits late is still found and given back.
create table jobrunner.runners (
    id         bigint      not null,             -- random, new for every life: never issued twice, also after a failover
    beat_at    timestamptz not null default clock_timestamp(),
    ttl        interval    not null default '30 s',
    lost_at    timestamptz,
    ended      text,                             -- lost (did not beat) | stopped (said good-bye) | renewed (goes on under a new id)
    busy       integer     not null default 0,
    slots      integer     not null default 0,
    listening  boolean     not null default false,
    started_at timestamptz not null default clock_timestamp(),
    app        text        not null default '',
    host       text        not null default '',
    pid        integer     not null default 0,
    version    text        not null default '',
    queues     text[],                           -- null: all
    constraint runners_pkey primary key (id),
    constraint runners_ended check ((ended is not null) = (lost_at is not null) and ended in ('lost', 'stopped', 'renewed'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create table jobrunner.runner_tasks (
    task      text collate "C" not null,
    runner_id bigint           not null references jobrunner.runners (id) on delete cascade,
    version   smallint         not null,         -- the newest version of the arguments that it understands
    constraint runner_tasks_pkey primary key (task, runner_id)
);
create index runner_tasks_runner on jobrunner.runner_tasks (runner_id);

create table jobrunner.tasks (
    name         text collate "C" not null,
    version      smallint    not null default 1,
    queue        text        not null default 'default',
    priority     smallint    not null default 0,
    max_attempts integer     not null default 10,
    retry        jsonb       not null default '{}',
    seen_at      timestamptz not null default now(),
    constraint tasks_pkey primary key (name)
);

create table jobrunner.queues (
    name        text collate "C" not null,
    paused_at   timestamptz,
    paused_by   text,
    description text,
    constraint queues_pkey primary key (name)
);

-- ---------------------------------------------------------------------------------------------------- side tables
-- Uniqueness is a row of its own, not an index over states: so no change of state can ever raise a conflict.
create table jobrunner.unique_keys (
    task       text collate "C" not null,
    unique_key text collate "C" not null,
    job_id     bigint not null,
    until      text   not null default 'start',
    constraint unique_keys_pkey primary key (task, unique_key),
    constraint unique_keys_until check (until in ('start', 'finish'))
);
create index unique_keys_job on jobrunner.unique_keys (job_id);

create table jobrunner.job_links (
    job_id         bigint not null,
    cause_job_id   bigint,                       -- the job whose handler enqueued this one
    parent_id      bigint,
    group_id       bigint,
    correlation_id uuid,                         -- one for the whole tree that a fact caused
    cause_event    uuid,
    subject        text collate "C",             -- what it is about: order:42
    constraint job_links_pkey primary key (job_id)
);
create index job_links_subject on jobrunner.job_links (subject, job_id) where subject is not null;
create index job_links_cause on jobrunner.job_links (cause_job_id) where cause_job_id is not null;
create index job_links_correlation on jobrunner.job_links (correlation_id) where correlation_id is not null;
create index job_links_parent on jobrunner.job_links (parent_id) where parent_id is not null;

create table jobrunner.job_progress (
    job_id     bigint      not null,
    total      bigint,
    processed  bigint      not null default 0,
    failed     bigint      not null default 0,
    message    text,
    started_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint job_progress_pkey primary key (job_id),
    constraint job_progress_counts check (total >= 0 and processed >= 0 and failed >= 0)
) with (fillfactor = 50);

create table jobrunner.job_results (
    job_id bigint not null,
    result jsonb  not null,
    constraint job_results_pkey primary key (job_id)
);

create table jobrunner.cancel_requests (
    job_id       bigint      not null,
    requested_at timestamptz not null default clock_timestamp(),
    actor        text        not null,
    reason       text,
    constraint cancel_requests_pkey primary key (job_id)
);

-- ------------------------------------------------------------------------------------------- settings and audit
create table jobrunner.settings (
    name  text  not null,
    value jsonb not null,
    constraint settings_pkey primary key (name)
);
insert into jobrunner.settings (name, value)
values
    ('schema_version', '1'),
    ('retention_finished', '"7 days"'),
    ('retention_dead', '"90 days"'),
    ('retention_audit', '"365 days"');

create table jobrunner.audit (
    id     bigint      not null generated always as identity,
    at     timestamptz not null default clock_timestamp(),
    actor  text        not null,
    action text        not null,
    target text        not null,
    jobs   integer     not null default 0,
    reason text,
    detail jsonb       not null default '{}',
    constraint audit_pkey primary key (id)
);
create index audit_at on jobrunner.audit (at);

-- ----------------------------------------------------------------------------------------------------------- views
-- The read surface: tables may change, these columns are only ever added to. No view shows arguments or headers.
create view jobrunner.v_job as
select
    j.id, j.state, j.blocked_on, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
    j.max_attempts, j.key, j.key_pos, j.holds_key, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error,
    l.subject, u.unique_key, l.correlation_id, l.cause_job_id, l.cause_event, l.parent_id, l.group_id,
    p.total, p.processed, p.failed, p.message, r.result
from jobrunner.jobs j
left join jobrunner.job_links l on l.job_id = j.id
left join jobrunner.unique_keys u on u.job_id = j.id
left join jobrunner.job_progress p on p.job_id = j.id
left join jobrunner.job_results r on r.job_id = j.id
union all
select
    j.id, j.state, null, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
    j.max_attempts, j.key, null, false, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error,
    l.subject, null, l.correlation_id, l.cause_job_id, l.cause_event, l.parent_id, l.group_id,
    p.total, p.processed, p.failed, p.message, r.result
from jobrunner.finished_jobs j
left join jobrunner.job_links l on l.job_id = j.id
left join jobrunner.job_progress p on p.job_id = j.id
left join jobrunner.job_results r on r.job_id = j.id;

create view jobrunner.v_runner as
select
    r.id as runner, r.app, r.host, r.pid, r.version, r.queues, r.slots, r.busy, r.listening, r.started_at,
    now() - r.beat_at as beat_age,
    case
        when r.ended is not null then r.ended
        when r.beat_at < now() - r.ttl then 'silent'
        else 'alive'
    end as state
from jobrunner.runners r;
