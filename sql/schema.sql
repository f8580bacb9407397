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
    end as state,
    r.poll, r.schema_oldest, r.schema_newest
from jobrunner.runners r;

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
