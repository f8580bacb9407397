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
--   schedules ........ the last tick of each schedule
--   outbox ........... events that were published and are not in the log yet; normally none
--   events ........... the log: one row an event at a dense position, one partition a day (UTC); log_base: where dropped days ended
--   subscriptions .... who gets which events; cursors: how far a stream has read; replays: walks over the log for one of them
--   inbox, sagas ..... messages from outside that were taken; processes over several events
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
    crashes      smallint    not null default 0,                   -- runners lost under it, and processes of its own
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
create index attempts_at on jobrunner.attempts using brin (ended_at);                   -- what failed lately

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
    poll       interval,                         -- how often it looks when nothing wakes it
    schema_oldest integer,                       -- the versions of the schema that its library was written for
    schema_newest integer,
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
    xact           bigint default (pg_current_xact_id()::text::bigint),  -- who wrote together; means nothing after a restore
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

-- The last tick of each schedule that made a job: compared and set by whoever wants to make the next, so that each makes one.
create table jobrunner.schedules (
    task      text collate "C" not null,
    name      text collate "C" not null,         -- one task may have several; of procrastinate's: the periodic id
    last_tick timestamptz not null,
    constraint schedules_pkey primary key (task, name)
) with (fillfactor = 50);

-- --------------------------------------------------------------------------------------------------------- events
-- What publishers leave, in their own transactions; normally empty. id is a stamp: a transaction that published a key after
-- another had committed has the larger one.
create table jobrunner.outbox (
    id             bigint      not null default jobrunner.stamp(),
    xact           bigint      not null default (pg_current_xact_id()::text::bigint),  -- who wrote together; means nothing after a restore
    occurred_at    timestamptz not null default clock_timestamp(),
    event_id       uuid        not null,
    correlation_id uuid,                         -- the tree of causes it belongs to; null: it begins one, under its own event_id
    cause_event    uuid,                         -- the event whose handler published it
    cause_job_id   bigint,                       -- the job whose handler published it
    version        smallint    not null,
    type           text collate "C" not null,
    source         text        not null,
    subject        text collate "C",
    key            text collate "C",
    data           jsonb       not null,
    headers        jsonb       not null,
    constraint outbox_pkey primary key (id)      -- sequence_v1
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000
);

-- The log: append only, written by the sequencer alone. position is dense and grows with recorded_at; a partition a UTC day,
-- events_pYYYYMMDD, made ahead like those of finished_jobs and dropped when it is old and nobody needs it.
create table jobrunner.events (
    position       bigint      not null,
    recorded_at    timestamptz not null,
    xact           bigint      not null,
    occurred_at    timestamptz not null,
    event_id       uuid        not null,
    correlation_id uuid,
    cause_event    uuid,
    cause_job_id   bigint,
    version        smallint    not null,
    type           text collate "C" not null,
    source         text        not null,
    subject        text collate "C",
    key            text collate "C",
    data           jsonb       not null,
    headers        jsonb       not null,
    constraint events_pkey primary key (position, recorded_at)                                   -- log_head, deliver_v1, load_deliveries
) partition by range (recorded_at);
create index events_event_id on jobrunner.events (event_id);                                     -- trace, one event
create index events_correlation on jobrunner.events (correlation_id) where correlation_id is not null;       -- trace
create index events_subject on jobrunner.events (subject, position) where subject is not null;   -- trace, lists
create index events_key on jobrunner.events (key, position) where key is not null;               -- the history of one entity
create index events_type on jobrunner.events (type, version, position);                          -- v_event_type, lists

-- Where the log stood when partitions were dropped: positions never begin anew.
create table jobrunner.log_base (
    position    bigint      not null,
    recorded_at timestamptz not null,
    dropped_at  timestamptz not null default clock_timestamp(),
    constraint log_base_pkey primary key (position)
);

-- Who gets which events. A row is made by the first runner whose code has it and changed by people only (subs apply, op_*).
-- Deliveries are made of what is recorded while it is live; what lies before comes by a row of replays.
create table jobrunner.subscriptions (
    name         text collate "C" not null,      -- also the task of its deliveries
    app          text        not null,
    mode         text        not null default 'queue',
    types        text[]      not null,           -- patterns: order.paid, order.*, #
    pattern      text        not null,           -- the same as one regular expression, by topic_pattern
    match        jsonb,                          -- headers must contain this
    queue        text        not null,
    priority     smallint    not null default 0,
    max_attempts integer     not null default 10,
    retry        jsonb       not null default '{}',
    ordered      boolean     not null default false,
    on_dead      text        not null default 'skip',
    replay       boolean     not null default true,          -- whether its handler takes replays
    on_lag       text        not null default 'hold',        -- what retention does when it still needs an old day
    state        text        not null default 'live',
    live_from    bigint      not null,           -- what lies behind this position is delivered as it is recorded
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    created_at   timestamptz not null default clock_timestamp(),
    constraint subscriptions_pkey primary key (name),
    constraint subscriptions_mode check (mode in ('queue', 'stream')),
    constraint subscriptions_on_dead check (on_dead in ('skip', 'block_key', 'pause')),
    constraint subscriptions_on_lag check (on_lag in ('hold', 'release')),
    constraint subscriptions_state check (state in ('live', 'catching_up')),
    constraint subscriptions_block_key check (on_dead <> 'block_key' or ordered),
    -- The sequencer reads every row at every step: what a person writes here by hand must not stop the log.
    constraint subscriptions_queue check (octet_length(queue) between 1 and 200),
    constraint subscriptions_max_attempts check (max_attempts between 1 and 1000),
    constraint subscriptions_pattern check ('' ~ pattern is not null)
);

-- How far a stream subscription has read. Apart from its row, because every batch writes it and the sequencer reads that.
create table jobrunner.cursors (
    subscription text collate "C" not null references jobrunner.subscriptions (name) on delete cascade,
    position     bigint      not null,
    skips        bigint[]    not null default '{}',          -- positions behind it that a person lets it pass over
    moved_at     timestamptz not null default clock_timestamp(),
    constraint cursors_pkey primary key (subscription)
) with (fillfactor = 50);

-- Walks over the log for one subscription: what lies before a new one (backfill; catch_up when it is ordered, and then it goes
-- on until it meets the present), and what a person asked for again (replay; rewind when it is ordered).
create table jobrunner.replays (
    id           bigint      not null generated always as identity,
    subscription text collate "C" not null,
    kind         text        not null,
    from_after   bigint      not null,           -- from the position behind this one
    upto         bigint      not null,           -- where it ends; of catch_up and rewind: where the present was when it began
    at_position  bigint      not null,           -- how far it is
    pattern      text,                           -- only these types
    types        text[],
    key          text,                           -- only this key
    rate         double precision,               -- deliveries a second, at the most
    delivered    bigint      not null default 0,
    state        text        not null default 'running',
    actor        text        not null,
    reason       text,
    created_at   timestamptz not null default clock_timestamp(),
    moved_at     timestamptz not null default clock_timestamp(),
    finished_at  timestamptz,
    constraint replays_pkey primary key (id),
    constraint replays_kind check (kind in ('backfill', 'catch_up', 'replay', 'rewind')),
    constraint replays_state check (state in ('running', 'done', 'cancelled')),
    constraint replays_rate check (rate > 0),
    constraint replays_finished_at check ((finished_at is not null) = (state <> 'running'))
) with (fillfactor = 50);
create index replays_running on jobrunner.replays (subscription) where state = 'running';

-- Messages from outside that were taken already, so that a second delivery of one does nothing.
create table jobrunner.inbox (
    consumer    text collate "C" not null,
    message_id  text collate "C" not null,
    received_at timestamptz not null default clock_timestamp(),
    expires_at  timestamptz not null,
    constraint inbox_pkey primary key (consumer, message_id)
);
create index inbox_expires on jobrunner.inbox (expires_at);

-- One row a running process over several events: its state, and what would undo what it has done so far.
create table jobrunner.sagas (
    name           text collate "C" not null,    -- the subscription that feeds it
    key            text collate "C" not null,
    version        integer     not null default 1,           -- +1 by each step: a timeout of an older one is dropped
    status         text        not null default 'running',
    state          jsonb       not null,
    compensation   jsonb       not null default '[]',        -- jobs; the last one undoes the latest step
    reason         text,
    timeout_at     timestamptz,
    correlation_id uuid,
    created_at     timestamptz not null default clock_timestamp(),
    updated_at     timestamptz not null default clock_timestamp(),
    finished_at    timestamptz,
    constraint sagas_pkey primary key (name, key),
    constraint sagas_status check (status in ('running', 'completed', 'compensating', 'compensated')),
    constraint sagas_finished_at check ((finished_at is not null) = (status in ('completed', 'compensated')))
) with (fillfactor = 70);
create index sagas_open on jobrunner.sagas (status, updated_at) where finished_at is null;
create index sagas_finished on jobrunner.sagas (finished_at) where finished_at is not null;

-- ------------------------------------------------------------------------------------------- settings and audit
create table jobrunner.settings (
    name  text  not null,
    value jsonb not null,
    constraint settings_pkey primary key (name)
);
insert into jobrunner.settings (name, value)
values
    ('schema_version', '3'),
    ('schema_serves', '2'),                      -- runners whose library was written for this version still work here
    ('retention_finished', '"7 days"'),
    ('retention_dead', '"90 days"'),
    ('retention_events', '"14 days"'),
    ('retention_sagas', '"30 days"'),
    ('retention_audit', '"365 days"');

create table jobrunner.audit (
    id     bigint      not null generated always as identity,
    at     timestamptz not null default clock_timestamp(),
    actor  text        not null,                 -- who it was, as he says
    action text        not null,
    target text        not null,
    jobs   integer     not null default 0,
    reason text,
    detail jsonb       not null default '{}',
    login  text        not null default session_user,        -- as whom he was connected, whatever he says
    constraint audit_pkey primary key (id)
);
create index audit_at on jobrunner.audit (at);

-- ----------------------------------------------------------------------------------------------------------- views
-- The read surface: tables may change, these columns are only ever added to. No view shows arguments or headers.
create view jobrunner.v_job as
select
    j.id, j.state, j.blocked_on, j.queue, j.task, j.version, j.priority, j.run_at, j.attempt, j.failures, j.crashes,
    j.max_attempts, j.key, j.key_pos, j.holds_key, j.runner_id, j.created_at, j.started_at, j.finished_at, j.reason, j.error,
    l.subject,
    (select u.unique_key from jobrunner.unique_keys u where u.job_id = j.id limit 1) as unique_key,
    l.correlation_id, l.cause_job_id, l.cause_event, l.parent_id, l.group_id, p.total, p.processed, p.failed, p.message,
    (                                            -- only for roles that may read the table: it is a payload
        select r.result
        from jobrunner.job_results r
        where r.job_id = j.id
            and (select has_table_privilege('jobrunner.job_results', 'select'))
    ) as result,
    p.started_at as progress_since, p.updated_at as progress_at,
    (select c.requested_at from jobrunner.cancel_requests c where c.job_id = j.id) as cancel_requested_at,
    (select c.actor from jobrunner.cancel_requests c where c.job_id = j.id) as cancel_requested_by
from (                                           -- one table each and nothing else: so both are read by their own indexes
    select
        o.id, o.state, o.blocked_on, o.queue, o.task, o.version, o.priority, o.run_at, o.attempt, o.failures, o.crashes,
        o.max_attempts, o.key, o.key_pos, o.holds_key, o.runner_id, o.created_at, o.started_at, o.finished_at, o.reason, o.error
    from jobrunner.jobs o
    union all
    select
        f.id, f.state, null::text collate "C", f.queue, f.task, f.version, f.priority, f.run_at, f.attempt, f.failures, f.crashes,
        f.max_attempts, f.key, null, false, f.runner_id, f.created_at, f.started_at, f.finished_at, f.reason, f.error
    from jobrunner.finished_jobs f
) j
left join jobrunner.job_links l on l.job_id = j.id
left join jobrunner.job_progress p on p.job_id = j.id;

create view jobrunner.v_runner as
select
    r.id as runner, r.app, r.host, r.pid, r.version, r.queues, r.slots, r.busy, r.listening, r.started_at,
    now() - r.beat_at as beat_age,
    case
        when r.ended is not null then r.ended
        when r.beat_at < now() - r.ttl then 'silent'
        else 'alive'
    end as state,
    r.poll, r.schema_oldest, r.schema_newest, r.ttl,
    array(select t.task from jobrunner.runner_tasks t where t.runner_id = r.id order by t.task) as tasks
from jobrunner.runners r;

-- The starts of a job that did not succeed.
create view jobrunner.v_attempt as
select
    a.job_id, a.attempt, a.outcome, a.reason, a.started_at, a.ended_at, a.runner_id, a.error_type, a.message, a.traceback
from jobrunner.attempts a;

-- What a job is about and what caused it. Ask by job_id, subject, cause_job_id, correlation_id or parent_id: each has an index.
create view jobrunner.v_job_link as
select l.job_id, l.subject, l.cause_job_id, l.cause_event, l.correlation_id, l.parent_id, l.group_id
from jobrunner.job_links l;

-- Every queue that somebody named, used or paused, with its jobs by state, and the live runners that read it with their slots.
-- Reads all of jobs once (a second for some million rows): for people, not for probes (v_front is).
create view jobrunner.v_queue as
with counted as materialized (
    select
        j.queue,
        count(*) filter (where j.state = 'ready') as ready,
        count(*) filter (where j.state = 'scheduled' and j.failures = 0) as scheduled,
        count(*) filter (where j.state = 'scheduled' and j.failures > 0) as retrying,
        count(*) filter (where j.state = 'blocked') as blocked,
        count(*) filter (where j.state = 'running') as running,
        count(*) filter (where j.state = 'dead') as dead,
        now() - min(j.run_at) filter (where j.state = 'ready') as oldest_ready_age
    from jobrunner.jobs j
    group by j.queue
),
named as (
    select c.queue from counted c
    union
    select q.name from jobrunner.queues q
    union
    select t.queue collate "C" from jobrunner.tasks t
)
select
    n.queue,
    coalesce(c.ready, 0) as ready,
    coalesce(c.scheduled, 0) as scheduled,
    coalesce(c.retrying, 0) as retrying,             -- scheduled after a failure
    coalesce(c.blocked, 0) as blocked,
    coalesce(c.running, 0) as running,
    coalesce(c.dead, 0) as dead,
    case when c.ready > 0 then greatest(c.oldest_ready_age, interval '0') end as oldest_ready_age,
    q.paused_at,
    q.paused_by,
    case when q.paused_at is not null then (
        select a.reason
        from jobrunner.audit a
        where a.action = 'pause'
            and a.target = 'queue ' || n.queue
            and a.at >= q.paused_at
        order by a.id
        limit 1
    ) end as pause_reason,
    r.runners,
    r.slots,
    q.description
from named n
left join counted c on c.queue = n.queue
left join jobrunner.queues q on q.name = n.queue
cross join lateral (
    select count(*) as runners, coalesce(sum(v.slots), 0) as slots
    from jobrunner.v_runner v
    where v.state = 'alive'
        and (v.queues is null or n.queue = any (v.queues))
) r;

-- The job at the front of each queue, and for how long it has been due. One look at an index a queue: cheap enough for a probe
-- every few seconds, whatever the backlog. The front is by priority, so it is not always the oldest.
create view jobrunner.v_front as
with recursive fronts as (
    (
        select j.queue, j.id, j.task, j.priority, j.run_at
        from jobrunner.jobs j
        where j.state = 'ready'
        order by j.queue, j.priority desc, j.seq
        limit 1
    )
    union all
    select n.queue, n.id, n.task, n.priority, n.run_at
    from fronts f
    cross join lateral (
        select j.queue, j.id, j.task, j.priority, j.run_at
        from jobrunner.jobs j
        where j.state = 'ready'
            and j.queue > f.queue
        order by j.queue, j.priority desc, j.seq
        limit 1
    ) n
)
select f.queue, f.id, f.task, f.priority, f.run_at, greatest(now() - f.run_at, interval '0') as wait, q.paused_at
from fronts f
left join jobrunner.queues q on q.name = f.queue;

-- The next 100 jobs of each queue in the order in which they will be claimed, and what keeps each from it: queue_paused,
-- subscription_paused, no_runner (none is alive), queue_unread (none of the live ones reads the queue), task_unknown (none of those
-- knows the task), slots_busy, or null: a runner is about to take it (slots that a queue or task has of its own in a process are not seen
-- here). Reads 100 rows a queue.
create view jobrunner.v_ready_next as
select
    f.queue, n.place, n.id, n.task, n.version, n.priority, n.run_at, greatest(now() - n.run_at, interval '0') as wait, n.key,
    case
        when f.paused_at is not null then 'queue_paused'
        when s.paused_at is not null then 'subscription_paused'
        when r.alive = 0 then 'no_runner'
        when r.here = 0 then 'queue_unread'
        when r.able = 0 then 'task_unknown'
        when r.free = 0 then 'slots_busy'
    end as blocked_by
from jobrunner.v_front f
cross join lateral (
    select
        j.id, j.task, j.version, j.priority, j.run_at, j.key,
        row_number() over (order by j.priority desc, j.seq) as place
    from jobrunner.jobs j
    where j.state = 'ready'
        and j.queue = f.queue
    order by j.priority desc, j.seq
    limit 100
) n
left join jobrunner.subscriptions s on s.name = n.task
cross join lateral (
    select
        count(*) as alive,
        count(*) filter (where x.reads) as here,
        count(*) filter (where x.reads and x.knows) as able,
        count(*) filter (where x.reads and x.knows and x.busy < x.slots) as free
    from (
        select
            v.busy,
            v.slots,
            v.queues is null or f.queue = any (v.queues) as reads,
            exists (
                select
                from jobrunner.runner_tasks t
                where t.task = n.task
                    and t.runner_id = v.runner
                    and t.version >= n.version
            ) as knows
        from jobrunner.v_runner v
        where v.state = 'alive'
    ) x
) r;

-- What runs, where, for how long, and for how long its runner still counts as alive without another heartbeat (negative: any live
-- runner gives the job back). A job's lease is its runner's.
create view jobrunner.v_running as
select
    j.id, j.queue, j.task, j.key, j.attempt, j.started_at, now() - j.started_at as runtime, r.ttl - r.beat_age as lease_left,
    j.runner_id as runner, r.host, r.pid, coalesce(r.state, 'gone') as runner_state, c.requested_at as cancel_requested_at
from jobrunner.jobs j
left join jobrunner.v_runner r on r.runner = j.runner_id
left join jobrunner.cancel_requests c on c.job_id = j.id
where j.state = 'running';

-- Jobs that will be mended by a live runner, or should have been: runner_silent (its runner has not beaten), runner_gone (it was lost or
-- stopped, or its row is gone), not_promoted (a minute overdue and still scheduled), not_seated (has waited a minute for its place in the
-- line of its key), key_unheld (first in the line of a key that nobody holds). Any row that stays for a minute means that no runner is
-- alive. Reads what runs, what is overdue, and the lines of keys.
create view jobrunner.v_stuck as
select
    j.id, j.queue, j.task, j.key,
    case when r.state = 'silent' then 'runner_silent' else 'runner_gone' end as reason,
    now() - r.beat_age as since,
    j.runner_id as runner, r.host, r.pid
from jobrunner.jobs j
left join jobrunner.v_runner r on r.runner = j.runner_id
where j.state = 'running'
    and r.state is distinct from 'alive'
union all
select j.id, j.queue, j.task, j.key, 'not_promoted', j.run_at, null, null, null
from jobrunner.jobs j
where j.state = 'scheduled'
    and j.run_at < now() - interval '1 minute'
union all
select j.id, j.queue, j.task, j.key, 'not_seated', j.created_at, null, null, null
from jobrunner.jobs j
where j.blocked_on = 'arrival'
    and greatest(j.created_at, j.run_at) < now() - interval '1 minute'
union all
select j.id, j.queue, j.task, j.key, 'key_unheld', j.created_at, null, null, null
from (
    select w.key, min(w.key_pos) as key_pos
    from jobrunner.jobs w
    where w.blocked_on = 'key'
    group by w.key
) k
join jobrunner.jobs j on j.key = k.key and j.key_pos = k.key_pos and j.blocked_on = 'key'
where not exists (select from jobrunner.jobs h where h.key = k.key and h.holds_key);

-- What failed and is tried again, with its last error in one line. Ask with `order by run_at limit 50`: that is read by an index.
create view jobrunner.v_retrying as
select
    j.id, j.queue, j.task, j.key, j.attempt, j.failures, j.max_attempts, j.run_at, j.run_at - now() as due_in,
    substring(j.error from '^([A-Za-z_][A-Za-z0-9_.]*): ') as error_type,
    j.error
from jobrunner.jobs j
where j.state = 'scheduled'
    and j.failures > 0;

-- What is dead. error_type and error_pattern are read from the error: numbers, ids and quoted parts in it count as one. fingerprint
-- names the fault: the same task, type and pattern. Ask with `order by died_at desc limit 50`: that is read by an index.
create view jobrunner.v_dead as
select
    j.id, j.queue, j.task, j.version, j.key, j.holds_key, l.subject, j.finished_at as died_at, j.attempt, j.failures, j.crashes,
    j.max_attempts, j.reason, e.error_type, j.error, e.error_pattern,
    left(encode(sha256(convert_to(concat_ws(E'\n', j.task, e.error_type, e.error_pattern), 'UTF8')), 'hex'), 12) as fingerprint,
    j.priority, j.run_at, j.created_at, j.started_at, p.total, p.processed, p.failed, p.message, p.started_at as progress_since,
    p.updated_at as progress_at
from jobrunner.jobs j
left join jobrunner.job_links l on l.job_id = j.id
left join jobrunner.job_progress p on p.job_id = j.id
cross join lateral (
    select
        substring(j.error from '^([A-Za-z_][A-Za-z0-9_.]*): ') as error_type,
        regexp_replace(
            regexp_replace(left(coalesce(j.error, j.reason, ''), 300), '''[^'']*''|"[^"]*"|`[^`]*`', '…', 'g'),
            '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|0x[0-9a-fA-F]+|[0-9]+', 'N', 'g'
        ) as error_pattern
) e
where j.state = 'dead'
    and j.finished_at is not null;

-- The dead by the fault that they died of; sample_id is the latest of them. Reads all that is dead.
create view jobrunner.v_dead_group as
select
    min(d.fingerprint) as fingerprint, d.task, d.error_type, d.error_pattern as error, count(*) as n, min(d.died_at) as first_at,
    max(d.died_at) as last_at,
    (array_agg(d.id order by d.died_at desc, d.id desc))[1] as sample_id
from jobrunner.v_dead d
group by d.task, d.error_type, d.error_pattern;

-- The load that comes within a day: by the minute for the next hour, then by the hour. retrying: those among them that failed before.
-- What is overdue is in the first bucket of its minute. Reads what is due within the day, by an index.
create view jobrunner.v_scheduled as
select b.bucket_start, j.queue, j.task, count(*) as n, count(*) filter (where j.failures > 0) as retrying
from jobrunner.jobs j
cross join lateral (
    select date_trunc(case when j.run_at < now() + interval '1 hour' then 'minute' else 'hour' end, j.run_at) as bucket_start
) b
where j.state = 'scheduled'
    and j.run_at < now() + interval '1 day'
group by b.bucket_start, j.queue, j.task;

-- Lines of keys: how many wait, and behind which job. A holder that is dead keeps its key until a person requeues or discards it where
-- its subscription says so (v_key_blocked). Reads the jobs that wait for their turn, from an index alone.
create view jobrunner.v_key_waiting as
select
    w.key, w.waiting, now() - n.created_at as oldest_age, h.id as holder, h.task as holder_task, h.state as holder_state,
    now() - coalesce(h.finished_at, case when h.state = 'running' then h.started_at end, h.run_at) as holder_age
from (
    select j.key, count(*) as waiting, min(j.key_pos) as key_pos
    from jobrunner.jobs j
    where j.blocked_on = 'key'
    group by j.key
) w
left join jobrunner.jobs n on n.key = w.key and n.key_pos = w.key_pos and n.blocked_on = 'key'
left join lateral (
    select x.id, x.task, x.state, x.run_at, x.started_at, x.finished_at
    from jobrunner.jobs x
    where x.key = w.key
        and x.holds_key
    order by x.key_pos desc
    limit 1
) h on true;

-- Tasks and versions that jobs wait for and no live runner knows: of the parked jobs, and of the first 1000 ready ones of each
-- queue that a live runner reads and that is not paused. ready counts those among them that nobody has parked yet.
create view jobrunner.v_task_unknown as
with alive as materialized (
    select r.runner, r.queues
    from jobrunner.v_runner r
    where r.state = 'alive'
),
front as materialized (
    select q.queue, f.task, f.version, count(*) as jobs, min(f.created_at) as since
    from jobrunner.v_front q
    cross join lateral (
        select j.task, j.version, j.created_at
        from jobrunner.jobs j
        where j.queue = q.queue
            and j.state = 'ready'
        order by j.priority desc, j.seq
        limit 1000
    ) f
    where exists (select from alive a where a.queues is null or q.queue = any (a.queues))
        and q.paused_at is null
    group by q.queue, f.task, f.version
),
waiting as (
    select j.queue, j.task, j.version, count(*) as jobs, 0 as ready, min(j.created_at) as since
    from jobrunner.jobs j
    where j.blocked_on = 'task'
        and not exists (select from jobrunner.subscriptions s where s.name = j.task and s.paused_at is not null)   -- put aside, not unknown
    group by j.queue, j.task, j.version
    union all
    select f.queue, f.task, f.version, f.jobs, f.jobs, f.since
    from front f
    where not exists (
        select
        from alive a
        join jobrunner.runner_tasks t on t.runner_id = a.runner
        where t.task = f.task
            and t.version >= f.version
    )
)
select
    w.queue, w.task, w.version, sum(w.jobs)::bigint as jobs, sum(w.ready)::bigint as ready, now() - min(w.since) as oldest_age,
    (select t.seen_at from jobrunner.tasks t where t.name = w.task) as last_known
from waiting w
group by w.queue, w.task, w.version;

-- The starts that ended within two hours, by minute, queue, task and outcome (succeeded, cancelled, failed, timeout, crashed, snoozed, …),
-- with how long they had been due and how long they ran. Reads two hours of history and of attempts.
create view jobrunner.v_throughput as
select
    date_trunc('minute', x.ended_at) as minute, x.queue, x.task, x.outcome, count(*) as n,
    round(extract(epoch from avg(greatest(x.started_at - x.run_at, interval '0')))::numeric, 3) as avg_wait_s,
    round(extract(epoch from avg(x.ended_at - x.started_at))::numeric, 3) as avg_run_s
from (
    select f.finished_at as ended_at, f.queue, f.task, f.state as outcome, f.run_at, f.started_at
    from jobrunner.finished_jobs f
    where f.finished_at > now() - interval '2 hours'
    union all
    select a.ended_at, coalesce(j.queue, h.queue), coalesce(j.task, h.task), a.outcome, null, a.started_at
    from jobrunner.attempts a
    left join jobrunner.jobs j on j.id = a.job_id
    left join lateral (
        select f.queue, f.task
        from jobrunner.finished_jobs f
        where j.id is null
            and f.id = a.job_id
        limit 1
    ) h on true
    where a.ended_at > now() - interval '2 hours'
        and a.outcome <> 'cancelled'             -- its row of history counts
) x
group by 1, 2, 3, 4;

-- Tasks: when a runner last registered each, how many live ones know it, and how its starts of the last hour went. Times are seconds of
-- those that succeeded. Reads an hour of history and of attempts, also for one task.
create view jobrunner.v_task as
with went as materialized (
    select
        x.task,
        count(*) as n,
        count(*) filter (where x.failed) as failed,
        percentile_cont(0.5) within group (order by x.ran) filter (where not x.failed) as p50,
        percentile_cont(0.95) within group (order by x.ran) filter (where not x.failed) as p95
    from (
        select f.task, false as failed, extract(epoch from f.finished_at - f.started_at)::double precision as ran
        from jobrunner.finished_jobs f
        where f.finished_at > now() - interval '1 hour'
            and f.state = 'succeeded'
        union all
        select coalesce(j.task, h.task), true, null
        from jobrunner.attempts a
        left join jobrunner.jobs j on j.id = a.job_id
        left join lateral (
            select f.task
            from jobrunner.finished_jobs f
            where j.id is null
                and f.id = a.job_id
            limit 1
        ) h on true
        where a.ended_at > now() - interval '1 hour'
            and a.outcome in ('failed', 'timeout', 'crashed', 'rejected', 'invalid_payload')
    ) x
    group by x.task
)
select
    coalesce(t.name, w.task) as task, t.version, t.queue, t.max_attempts, t.seen_at as last_known,
    (
        select count(*)
        from jobrunner.runner_tasks k
        join jobrunner.v_runner r on r.runner = k.runner_id
        where k.task = t.name
            and r.state = 'alive'
    ) as runners,
    coalesce(w.n, 0) as n_1h,
    coalesce(w.failed, 0) as failed_1h,
    round(w.failed::numeric / w.n, 3) as fail_ratio_1h,
    round(w.p50::numeric, 3) as p50_s,
    round(w.p95::numeric, 3) as p95_s
from jobrunner.tasks t
full join went w on w.task = t.name;

-- What people changed. Ask with `order by at desc limit 50`: that is read by an index.
create view jobrunner.v_audit as
select a.id, a.at, a.actor, a.action, a.target, a.jobs, a.reason, a.detail, a.login
from jobrunner.audit a;

-- Every table with its live and dead rows (as the server counts them), its size, when autovacuum was there last, and the days of the
-- partitioned ones: the oldest, and how many lie ahead. Reads the catalogue and the sizes of files only.
create view jobrunner.v_table_health as
select
    c.relname::text as table_name, s.live, s.dead, round(100.0 * s.dead / nullif(s.live + s.dead, 0), 1) as dead_pct, s.last_autovacuum,
    pg_size_pretty(s.bytes) as size, s.bytes::bigint as bytes, s.oldest_partition,
    case when c.relkind = 'p' then s.partitions_ahead end as partitions_ahead
from pg_class c
cross join lateral (
    select
        sum(pg_stat_get_live_tuples(p.oid))::bigint as live,
        sum(pg_stat_get_dead_tuples(p.oid))::bigint as dead,
        max(pg_stat_get_last_autovacuum_time(p.oid)) as last_autovacuum,
        sum(pg_total_relation_size(p.oid)) as bytes,
        min(to_date(p.day, 'YYYYMMDD')) as oldest_partition,
        count(*) filter (where p.day > to_char(now() at time zone 'utc', 'YYYYMMDD')) as partitions_ahead
    from (
        select c.oid, null as day
        union all
        select i.inhrelid, substring(k.relname from '_p([0-9]{8})$')
        from pg_inherits i
        join pg_class k on k.oid = i.inhrelid
        where i.inhparent = c.oid
    ) p
) s
where c.relnamespace = 'jobrunner'::regnamespace
    and c.relkind in ('r', 'p')
    and not c.relispartition;

-- Who holds an old snapshot, so that dead rows stay and every table of this database grows: old_xact, idle_in_tx, prepared, slot. A
-- role without pg_read_all_stats sees its own sessions only.
create view jobrunner.v_blocker as
select
    a.pid,
    case when a.state like 'idle in transaction%' then 'idle_in_tx' else 'old_xact' end as kind,
    null::text as name, now() - a.xact_start as age, age(coalesce(a.backend_xmin, a.backend_xid)) as xmin_age, a.usename::text as role,
    a.application_name as application, a.query_start, left(a.query, 80) as query_head
from pg_stat_activity a
where a.datname = current_database()
    and a.pid <> pg_backend_pid()
    and a.backend_type = 'client backend'
    and (a.backend_xmin is not null or a.backend_xid is not null)
union all
select null, 'prepared', p.gid, now() - p.prepared, age(p.transaction), p.owner::text, null, p.prepared, null
from pg_prepared_xacts p
where p.database = current_database()
union all
select s.active_pid, 'slot', s.slot_name::text, null, age(s.xmin), null, s.plugin::text, null, null
from pg_replication_slots s
where s.xmin is not null;

-- Where the log stands: its last position and when that was recorded; 0 before the first event. log_head is the same for functions.
create view jobrunner.v_log_head as
select x.position, x.recorded_at
from (
    (select e.position, e.recorded_at from jobrunner.events e order by e.position desc limit 1)
    union all
    (select b.position, b.recorded_at from jobrunner.log_base b order by b.position desc limit 1)
    union all
    select 0, null
) x
order by x.position desc
limit 1;

-- What publishers left and nobody has moved into the log yet; normally nothing. When oldest_age grows, no runner moves events.
create view jobrunner.v_outbox as
select
    o.pending,
    case when o.oldest_at is not null then greatest(now() - o.oldest_at, interval '0') end as oldest_age,
    o.oldest_id,
    h.position as head_position,
    h.recorded_at as head_recorded_at
from (
    select count(*) as pending, min(x.occurred_at) as oldest_at, min(x.id) as oldest_id
    from jobrunner.outbox x
) o
cross join jobrunner.v_log_head h;

-- The log without payloads, one row an event. Ask by position, event_id, key, subject, correlation_id or type: each has an index.
create view jobrunner.v_event as
select
    e.position, e.recorded_at, e.occurred_at, e.type, e.version, e.source, e.subject, e.key, e.event_id,
    e.correlation_id,                                                -- null: it began a tree, under its own event_id
    e.cause_event, e.cause_job_id, pg_column_size(e.data) as bytes
from jobrunner.events e;

-- What is published, and who listens: no subscription means nobody. Jumps from type to type in
-- its index; reads the last 24 hours of the log once, to count them.
create view jobrunner.v_event_type as
with recursive kinds as (
    (
        select e.type, e.version
        from jobrunner.events e
        order by e.type, e.version
        limit 1
    )
    union all
    select n.type, n.version
    from kinds k
    cross join lateral (
        select e.type, e.version
        from jobrunner.events e
        where (e.type, e.version) > (k.type, k.version)
        order by e.type, e.version
        limit 1
    ) n
),
day as materialized (
    select e.type, e.version, count(*) as n
    from jobrunner.events e
    where e.recorded_at > now() - interval '24 hours'
    group by e.type, e.version
)
select
    k.type, k.version, f.position as first_position, l.position as last_position, l.recorded_at as last_at,
    coalesce(d.n, 0) as n_24h,
    array(
        select s.name
        from jobrunner.subscriptions s
        where '.' || k.type ~ s.pattern
        order by s.name
    ) as subscriptions
from kinds k
left join day d on d.type = k.type and d.version = k.version
cross join lateral (
    select e.position
    from jobrunner.events e
    where e.type = k.type
        and e.version = k.version
    order by e.position
    limit 1
) f
cross join lateral (
    select e.position, e.recorded_at
    from jobrunner.events e
    where e.type = k.type
        and e.version = k.version
    order by e.position desc
    limit 1
) l;

-- Every subscription with its deliveries by state, and how far it is behind. lag_events: of a queue its open deliveries that wait or
-- run, and while it catches up what its walk has before it; of a stream how far the cursor is behind the head (0 when no job of it
-- is open: then it has read all that it wants). lag: for how long the oldest of them has waited. Reads all of jobs once.
create view jobrunner.v_subscription as
with deliveries as materialized (
    select
        j.task,
        count(*) filter (where j.state = 'ready') as ready,
        count(*) filter (where j.state = 'scheduled' and j.failures = 0) as scheduled,
        count(*) filter (where j.state = 'scheduled' and j.failures > 0) as retrying,
        count(*) filter (where j.state = 'blocked') as blocked,
        count(*) filter (where j.state = 'running') as running,
        count(*) filter (where j.state = 'dead') as dead,
        count(*) filter (where j.state = 'dead' and j.holds_key and starts_with(j.key, j.task || ' ')) as blocked_keys,
        min(j.created_at) filter (where j.finished_at is null) as oldest_at
    from jobrunner.jobs j
    where j.task in (select s.name from jobrunner.subscriptions s)
    group by j.task
),
walks as materialized (
    select r.subscription, min(r.at_position) filter (where r.kind in ('catch_up', 'rewind')) as at_position
    from jobrunner.replays r
    where r.state = 'running'
    group by r.subscription
)
select
    s.name, s.app, s.mode, s.types, s.queue, s.ordered, s.on_dead, s.state, s.paused_at, s.paused_by, s.pause_reason, s.live_from,
    c.position as cursor_position,
    h.position as head,
    case
        when s.mode = 'queue'
            then coalesce(d.ready + d.scheduled + d.retrying + d.blocked + d.running, 0) + coalesce(b.catching_up, 0)
        else coalesce(b.unread, 0)
    end as lag_events,
    case when o.oldest_at is not null then greatest(now() - o.oldest_at, interval '0') end as lag,
    coalesce(d.ready, 0) as ready,
    coalesce(d.scheduled, 0) as scheduled,
    coalesce(d.retrying, 0) as retrying,
    coalesce(d.blocked, 0) as blocked,
    coalesce(d.running, 0) as running,
    coalesce(d.dead, 0) as dead,
    coalesce(d.blocked_keys, 0) as blocked_keys,
    w.subscription is not null as replaying
from jobrunner.subscriptions s
cross join jobrunner.v_log_head h
left join jobrunner.cursors c on c.subscription = s.name
left join deliveries d on d.task = s.name
left join walks w on w.subscription = s.name
cross join lateral (
    select
        case when s.state = 'catching_up' then greatest(h.position - w.at_position, 0) end as catching_up,
        case
            when s.mode = 'stream' and (s.paused_at is not null or d.task is not null) then greatest(h.position - c.position, 0)
        end as unread
) b
cross join lateral (
    select case
        when s.mode = 'queue' then least(
            d.oldest_at,
            case when b.catching_up > 0 then (
                select e.recorded_at
                from jobrunner.events e
                where e.position > w.at_position
                order by e.position
                limit 1
            ) end
        )
        when b.unread > 0 then coalesce(         -- the first that it wants, if that is among the next thousand
            (
                select min(n.recorded_at)
                from (
                    select e.recorded_at, e.type
                    from jobrunner.events e
                    where e.position > c.position
                    order by e.position
                    limit 1000
                ) n
                where '.' || n.type ~ s.pattern
            ),
            d.oldest_at
        )
    end as oldest_at
) o;

-- Open deliveries, the dead ones among them. replay is the walk that delivers an event again. Order by job_id to see the oldest cheaply.
create view jobrunner.v_delivery_open as
select
    j.task as subscription, j.id as job_id, p.position, e.type as event_type, e.key, j.state, j.blocked_on, j.attempt, j.failures,
    j.run_at, (j.headers ->> 'replay')::bigint as replay, j.error
from jobrunner.jobs j
join jobrunner.subscriptions s on s.name = j.task
cross join lateral (
    select substring(j.args ->> 'position' from '^[0-9]{1,18}$')::bigint as position, substring(j.args ->> 'recorded_at' from '^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-9:.]{8,15}[+-][0-9:]{2,5}$')::timestamptz as recorded_at
) p
left join lateral (
    select x.type, x.key
    from jobrunner.events x
    where x.position = p.position
        and x.recorded_at = p.recorded_at
    limit 1                                      -- keeps it a look at one row of the log for each delivery
) e on true
where j.args ? 'position'
    and j.state in ('scheduled', 'ready', 'blocked', 'running', 'dead');

-- Keys of ordered subscriptions that a dead delivery blocks: what died, since when, and how many wait behind it.
create view jobrunner.v_key_blocked as
select
    j.task as subscription, substr(j.key, length(j.task) + 2) as key, j.id as job_id, substring(j.args ->> 'position' from '^[0-9]{1,18}$')::bigint as position,
    j.finished_at as since, j.reason, j.error,
    (
        select count(*)
        from jobrunner.jobs w
        where w.key = j.key
            and w.blocked_on = 'key'
    ) as waiting
from jobrunner.jobs j
join jobrunner.subscriptions s on s.name = j.task
where j.state = 'dead'
    and j.finished_at is not null
    and j.holds_key
    and starts_with(j.key, j.task || ' ');       -- not the pump of a stream, nor a saga's compensation

-- Walks over the log, by what they were asked for and how far they are. total and processed are positions of the log, failed the
-- dead deliveries of a replay or rewind; a walk that must meet the present has the head before it.
create view jobrunner.v_replay as
select
    r.id, r.subscription, r.kind, r.state, p.total, p.processed,
    (
        select count(*)
        from jobrunner.jobs j
        where j.state = 'dead'
            and j.finished_at is not null
            and j.task = r.subscription
            and j.headers @> jsonb_build_object('replay', r.id)
    ) as failed,
    case
        when p.total <= 0 then null
        when p.processed >= p.total then 100
        else least(99.9, round(100.0 * p.processed / p.total, 1))
    end as percentage,
    round(p.rate, 2) as rate,
    case
        when r.state = 'running' and p.rate > 0 and p.processed < p.total
            then now() + least((p.total - p.processed) / p.rate, 1e9) * interval '1 second'
    end as estimated_completion,
    case
        when r.state = 'running' and s.paused_at is not null then 'waits: the subscription is paused'
        else to_char(r.delivered, 'FM999,999,999,999,990') || case when r.delivered = 1 then ' delivery made' else ' deliveries made' end
    end as message,
    r.from_after, r.upto, r.at_position, r.types, r.key, r.rate as max_rate, r.delivered, r.actor, r.reason, r.created_at, r.moved_at,
    r.finished_at
from jobrunner.replays r
left join jobrunner.subscriptions s on s.name = r.subscription
cross join jobrunner.v_log_head h
cross join lateral (
    select
        x.total,
        x.processed,
        x.processed / nullif(extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.created_at), 0)::numeric as rate
    from (
        select
            greatest(r.upto, r.at_position, case when r.state = 'running' and r.kind in ('catch_up', 'rewind') then h.position end)
                - r.from_after as total,
            r.at_position - r.from_after as processed
    ) x
) p;

-- Running processes over several events, without their state. status is what is stored, or stuck (its timeout is a minute overdue, or
-- a delivery or timeout of it is dead), or needs_attention (it compensates, and one of the jobs for that is dead).
create view jobrunner.v_saga as
select
    g.name, g.key,
    case
        when g.finished_at is not null then g.status
        when g.status = 'compensating' and u.job_id is not null then 'needs_attention'
        when d.job_id is not null or g.timeout_at < now() - interval '1 minute' then 'stuck'
        else g.status
    end as status,
    case when g.finished_at is null then coalesce(u.job_id, d.job_id) end as dead_job_id,
    jsonb_array_length(g.compensation) as compensations,
    g.version, g.reason, g.timeout_at, g.correlation_id, g.created_at, g.updated_at, g.finished_at
from jobrunner.sagas g
left join lateral (
    select j.id as job_id
    from jobrunner.jobs j
    where g.finished_at is null
        and j.key = g.name || ' ' || g.key
        and j.holds_key
        and j.state = 'dead'
    limit 1
) d on true
left join lateral (
    select j.id as job_id
    from jobrunner.jobs j
    where g.status = 'compensating'
        and j.key = 'saga ' || g.name || ' ' || g.key
        and j.holds_key
        and j.state = 'dead'
    limit 1
) u on true;

-- What a person should look at, the worst first, with what shows more or mends it in psql. The codes and messages are those of
-- `jobrunner status`. Reads all of jobs, twice where there are subscriptions.
create view jobrunner.v_attention as
with queues as materialized (
    select q.*, q.ready + q.scheduled + q.retrying + q.blocked as waiting
    from jobrunner.v_queue q
),
runners as materialized (
    select r.state, r.listening, r.poll, r.beat_age, r.host || ':' || r.pid as place
    from jobrunner.v_runner r
    where r.state in ('alive', 'silent')
),
unknown as materialized (
    select u.* from jobrunner.v_task_unknown u
),
subs as materialized (
    select
        s.*,
        s.ready > 0 or (s.lag_events > 0 and (s.mode = 'stream' or s.state = 'catching_up')) as moves
    from jobrunner.v_subscription s
),
found as (
    select 'no_runner' as code, 'error' as severity, '' as subject, sum(q.waiting) as n, 'job' as unit, null::interval as age,
        '{n} and no runner is alive' as message, 'start one: jobrunner run APP' as hint
    from queues q
    where not exists (select from runners r where r.state = 'alive')
    having sum(q.waiting) > 0
    union all
    select 'runner_silent', 'warning', r.place, null, null, r.beat_age, format('runner %s has not beaten for {age}', r.place),
        'select * from jobrunner.v_stuck'
    from runners r
    where r.state = 'silent'
    union all
    select 'listener_down', 'notice', r.place, null, null, null,
        format(
            'runner %s hears no notifications (a pooler in transaction mode?) and %s', r.place,
            coalesce('looks every ' || trim_scale(extract(epoch from r.poll)) || ' s', 'only polls')
        ),
        'set JOBRUNNER_LISTEN_DSN to a direct address'
    from runners r
    where r.state = 'alive'
        and not r.listening
    union all
    select 'queue_paused', 'notice', q.queue, q.waiting, 'job', null, format('queue %s is paused by %s, {n}', q.queue, q.paused_by),
        format('select jobrunner.op_resume(%L)', q.queue)
    from queues q
    where q.paused_at is not null
        and q.waiting > 0
    union all
    select 'queue_unread', 'error', q.queue, q.waiting, 'job', null, format('{n} in queue %s, which no live runner reads', q.queue),
        'start one: jobrunner run APP --queue '
            || case when q.queue ~ '^[\w./:@%+=,-]+$' then q.queue else quote_literal(q.queue) end    -- as a shell takes it
    from queues q
    where q.paused_at is null
        and q.waiting > 0
        and q.runners = 0
        and exists (select from runners r where r.state = 'alive')
    union all
    select 'queue_lagging', 'warning', q.queue, null, null, q.oldest_ready_age,
        format('queue %s lags: its oldest ready job has been due for {age}', q.queue)
            || coalesce('; task ' || u.task || ': no live runner knows it', ''),
        case
            when u.task is null then format('select * from jobrunner.v_ready_next where queue = %L order by place', q.queue)
            else 'start a runner with the code that has it'
        end
    from queues q
    left join lateral (
        select x.task
        from unknown x
        where x.queue = q.queue
            and x.ready > 0
        order by x.jobs desc, x.task, x.version
        limit 1
    ) u on true
    where q.paused_at is null
        and q.runners > 0
        and q.oldest_ready_age > interval '1 minute'
    union all
    select 'task_unknown', 'warning', u.task, u.jobs, 'job', null,
        format('{n} in queue %s for task %s (version %s), which no live runner knows', u.queue, u.task, u.version),
        'start a runner with the code that has it'
    from unknown u
    union all
    select 'jobs_died', 'warning', '', count(*), null, null,
        format('%s job%s died within the last hour', to_char(count(*), 'FM999,999,999,990'), case when count(*) <> 1 then 's' end),
        'select * from jobrunner.v_dead_group order by last_at desc'
    from jobrunner.jobs j
    where j.state = 'dead'
        and j.finished_at > now() - interval '1 hour'
    having count(*) > 0
    union all
    select 'partitions_short', 'warning', h.table_name, null, null, null,
        format('history has partitions for %s day%s ahead only', h.partitions_ahead, case when h.partitions_ahead <> 1 then 's' end),
        'select jobrunner.make_partitions(now(), 7)'
    from jobrunner.v_table_health h
    where h.table_name = 'finished_jobs'
        and h.partitions_ahead < 2
    union all
    select 'old_transaction', 'warning', '', null, null, max(b.age),
        'a transaction has been open for {age}: no table can be cleaned up behind it',
        'select * from jobrunner.v_blocker order by age desc nulls last'
    from jobrunner.v_blocker b
    where b.kind in ('old_xact', 'idle_in_tx')
    having max(b.age) > interval '15 minutes'
    union all
    select 'outbox_stalled', 'error', '', o.pending, 'event', o.oldest_age,
        '{n} in the outbox, the oldest for {age}, and no runner moves them',
        case
            when exists (select from runners r where r.state = 'alive') then 'select * from jobrunner.v_outbox'
            else 'start one: jobrunner run APP'
        end
    from jobrunner.v_outbox o
    where o.oldest_age > interval '30 seconds'
    union all
    select 'subscription_paused', case when s.paused_by = 'on_dead' then 'error' else 'notice' end, s.name, s.lag_events, 'event', null,
        format('subscription %s is paused %s, {n}', s.name, case when s.paused_by = 'on_dead' then 'by itself' else 'by ' || s.paused_by end)
            || coalesce(': ' || nullif(s.pause_reason, ''), ''),
        case
            when s.paused_by = 'on_dead' then format('select * from jobrunner.v_dead where task = %L', s.name)
            else format('select jobrunner.op_resume_subscription(%L)', s.name)
        end
    from subs s
    where s.paused_at is not null
    union all
    select 'subscription_blocked', 'warning', s.name, null, null, null,
        format('%s key%s of subscription %s cannot go on behind a dead delivery', to_char(s.blocked_keys, 'FM999,999,999,990'),
            case when s.blocked_keys <> 1 then 's' end, s.name),
        format('select * from jobrunner.v_key_blocked where subscription = %L', s.name)
    from subs s
    where s.paused_at is null
        and s.blocked_keys > 0
    union all
    select 'subscription_lagging', 'warning', s.name, s.lag_events, 'event', s.lag,
        format('subscription %s lags: {n}, the oldest for {age}', s.name),
        format('select * from jobrunner.v_delivery_open where subscription = %L order by job_id limit 20', s.name)
    from subs s
    where s.paused_at is null
        and s.blocked_keys = 0
        and s.moves
        and s.lag > interval '1 minute'
        and s.state <> 'catching_up'
    union all
    select 'saga_attention', case when g.status = 'stuck' then 'warning' else 'error' end, g.name, null, null, null,
        format('%s saga%s of %s %s', to_char(count(*), 'FM999,999,999,990'), case when count(*) <> 1 then 's' end, g.name, case
            when g.status = 'stuck' then 'cannot go on: a timeout is overdue, or a delivery or timeout is dead'
            else 'cannot be undone: a compensation is dead'
        end),
        format('select * from jobrunner.v_saga where name = %L and status = %L', g.name, g.status)
    from jobrunner.v_saga g
    where g.finished_at is null
        and g.status in ('stuck', 'needs_attention')
    group by g.name, g.status
)
select
    f.code, f.severity, f.subject,
    replace(
        replace(f.message, '{n}', coalesce(
            format('%s %s%s', to_char(f.n, 'FM999,999,999,999,990'), f.unit, case when f.n = 1 then ' waits' else 's wait' end), ''
        )),
        '{age}', coalesce(ltrim(regexp_replace(a.spelled, '(^| )0[dhms]', '', 'g')), '')
    ) as message,
    f.hint
from found f
cross join lateral (
    select format(                               -- 1d 2h 3m 4s, without the zeros
        '%sd %sh %sm %ss', s.n / 86400, s.n % 86400 / 3600, s.n % 3600 / 60, s.n % 60
    ) as spelled
    from (select trunc(extract(epoch from f.age))::bigint as n) s
) a
order by array_position(array['error', 'warning', 'notice'], f.severity), f.code, f.subject;

-- Jobs in the words of procrastinate (docs/procrastinate.md), one row a job, live or over: its list and manage functions read this.
create view jobrunner.v_procrastinate_job as
select
    j.id, j.queue as queue_name, j.task as task_name, j.priority::integer as priority, j.key as lock,
    j.headers ->> 'queueing_lock' as queueing_lock,
    case j.state
        when 'running' then 'doing'
        when 'succeeded' then 'succeeded'
        when 'dead' then 'failed'
        when 'cancelled' then case when j.reason = 'aborted' then 'aborted' else 'cancelled' end
        else 'todo'
    end as status,
    case when j.run_at > j.created_at then j.run_at end as scheduled_at,
    j.attempt - case when j.state = 'running' then 1 else 0 end as attempts,
    j.state = 'running' and exists (select from jobrunner.cancel_requests c where c.job_id = j.id) as abort_requested,
    j.runner_id as worker_id,
    j.started_at,
    j.finished_at
from jobrunner.jobs j
union all
select
    j.id, j.queue, j.task, j.priority::integer, j.key, j.headers ->> 'queueing_lock',
    case
        when j.state = 'cancelled' and (j.runner_id is not null or j.reason = 'aborted') then 'aborted'       -- it ran when it was stopped
        else j.state
    end,
    case when j.run_at > j.created_at then j.run_at end,
    j.attempt,
    false,
    j.runner_id,
    j.started_at,
    j.finished_at
from jobrunner.finished_jobs j;

-- What happened to a job in the words of procrastinate_events. Nothing is written per transition: put together from the rows that
-- are there, so of the starts before the latest only those that did not succeed are known.
create view jobrunner.v_procrastinate_event as
select j.id as job_id, e.type, e.at
from (
    select j.id, j.state, j.attempt, j.reason, j.run_at, j.created_at, j.started_at, j.finished_at, j.runner_id
    from jobrunner.jobs j
    union all
    select f.id, f.state, f.attempt, f.reason, f.run_at, f.created_at, f.started_at, f.finished_at, f.runner_id
    from jobrunner.finished_jobs f
) j
cross join lateral (
    select 'deferred' as type, j.created_at as at
    union all
    select 'scheduled', j.run_at
    where j.run_at > j.created_at
    union all
    select 'started', a.started_at
    from jobrunner.attempts a
    where a.job_id = j.id
        and a.attempt < j.attempt
    union all
    select 'started', j.started_at
    where j.started_at is not null
    union all
    select
        case
            when a.reason = 'exhausted' or a.outcome in ('rejected', 'invalid_payload') or (a.outcome, a.reason) = ('failed', 'requested')
                then 'failed'                    -- dead, and requeued by a person since
            else 'deferred_for_retry'
        end,
        a.ended_at
    from jobrunner.attempts a
    where a.job_id = j.id
        and (
            a.attempt < j.attempt
            or j.runner_id is null and (j.finished_at is null or j.state = 'cancelled' and j.reason is distinct from 'aborted')
        )
    union all
    select 'abort_requested', c.requested_at
    from jobrunner.cancel_requests c
    where c.job_id = j.id
    union all
    select
        case
            when j.state = 'dead' then 'failed'
            when j.state = 'cancelled' and (j.runner_id is not null or j.reason = 'aborted') then 'aborted'
            else j.state
        end,
        j.finished_at
    where j.finished_at is not null
) e
union all
select v.id, 'retried', a.at
from jobrunner.audit a
cross join lateral regexp_matches(a.target, '\d+', 'g') as named (id)
join jobrunner.v_procrastinate_job v on v.id = named.id[1]::bigint
where a.action = 'requeue';
