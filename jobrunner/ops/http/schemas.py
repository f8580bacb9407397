"""The shapes of the answers as JSON Schema, by name: exactly what `ops.shapes` and `insight` make, no field more or less.

(long because: one line for each field of each answer)
"""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

TEXT: Schema = {"type": "string"}
ID: Schema = {
    "type": "string",
    "pattern": "^[0-9]+$",
    "description": "A number, as text: it may have more digits than a float.",
}
COUNT: Schema = {"type": "integer", "minimum": 0}
INTEGER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339 in UTC."}
SECONDS: Schema = {"type": "number", "description": "Seconds."}
ANYTHING: Schema = {}


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def words(*each: str) -> Schema:
    """One of a few words."""
    return {"type": "string", "enum": list(each)}


def null(schema: Schema) -> Schema:
    """*schema* or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": schema}


def shape(_about: str, /, **fields: Schema) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "description": _about,
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def listing(of: Schema, **more: Schema) -> Schema:
    """A list with its instant and the cursor of the next page."""
    return shape("A page of a list.", at=TIME, items=many(of), next_cursor=null(TEXT), **more)


STATE = words("scheduled", "ready", "blocked", "running", "succeeded", "dead", "cancelled")

_JOB: dict[str, Schema] = {
    "id": ID,
    "state": STATE,
    "blocked_on": null(words("arrival", "key", "parents", "limit", "task")),
    "queue": TEXT,
    "task": TEXT,
    "version": INTEGER,
    "priority": INTEGER,
    "run_at": TIME,
    "attempt": COUNT,
    "failures": COUNT,
    "crashes": COUNT,
    "max_attempts": COUNT,
    "key": null(TEXT),
    "subject": null(TEXT),
    "runner": null(ID),
    "created_at": TIME,
    "started_at": null(TIME),
    "finished_at": null(TIME),
    "reason": null(TEXT),
    "error": null(TEXT),
    "progress": null(ref("Progress")),
}
_COUNTS = dict.fromkeys(("ready", "scheduled", "retrying", "blocked", "running", "dead"), COUNT)
_CONDITIONS = ("ok", "catching_up", "lagging", "blocked", "paused")

COMPONENTS: dict[str, Schema] = {
    "Problem": {
        **shape("An error (RFC 9457).", type=TEXT, title=TEXT, status=INTEGER, detail=TEXT),
        "additionalProperties": True,
    },
    "Progress": shape(
        "How far a job says it is.",
        total=null(INTEGER),
        processed=INTEGER,
        failed=INTEGER,
        percentage=null({"type": "number"}),
        rate=null({"type": "number"}),
        estimated_completion=null(TIME),
        message=null(TEXT),
    ),
    "Job": shape("One job of a list.", **_JOB),
    "Attempt": shape(
        "A start that did not succeed.",
        attempt=COUNT,
        outcome=TEXT,
        reason=null(TEXT),
        started_at=null(TIME),
        ended_at=TIME,
        error_type=null(TEXT),
        message=null(TEXT),
        traceback=null(TEXT),
        runner=null(ID),
    ),
    "Node": shape(
        "One node of a tree of causes, depth first.",
        depth=COUNT,
        kind=words("transaction", "event", "delivery", "job"),
        task=null(TEXT),
        queue=null(TEXT),
        state=TEXT,
        blocked_on=null(TEXT),
        attempt=null(COUNT),
        failures=null(COUNT),
        created_at=null(TIME),
        started_at=null(TIME),
        finished_at=null(TIME),
        reason=null(TEXT),
        error=null(TEXT),
        subject=null(TEXT),
        event_id=null(TEXT),
        type=null(TEXT),
        version=null(INTEGER),
        key=null(TEXT),
        id=null(ID),
        cause=null(ID),
    ),
    "JobDetail": shape(
        "One job with everything that belongs to it. args, headers and result are null unless payload_shown.",
        **_JOB,
        unique_key=null(TEXT),
        correlation_id=null(TEXT),
        cause_job_id=null(ID),
        cause_event=null(TEXT),
        parent_id=null(ID),
        args=ANYTHING,
        headers=ANYTHING,
        result=ANYTHING,
        payload_shown=FLAG,
        runner_host=null(TEXT),
        runner_pid=null(INTEGER),
        cancel_requested_at=null(TIME),
        cancel_requested_by=null(TEXT),
        attempts=many(ref("Attempt")),
        why=TEXT,
        trace=many(ref("Node")),
    ),
    "Queue": shape(
        "One queue.",
        name=TEXT,
        paused_at=null(TIME),
        paused_by=null(TEXT),
        pause_reason=null(TEXT),
        description=null(TEXT),
        **_COUNTS,
        runners=COUNT,
        oldest_ready_age_seconds=null(SECONDS),
    ),
    "Runner": shape(
        "One runner; queues null means all.",
        id=ID,
        state=words("alive", "silent", "lost", "stopped", "renewed"),
        app=TEXT,
        host=TEXT,
        pid=INTEGER,
        version=TEXT,
        queues=null(many(TEXT)),
        slots=COUNT,
        busy=COUNT,
        listening=FLAG,
        started_at=TIME,
        tasks=many(TEXT),
        schema_oldest=null(INTEGER),
        schema_newest=null(INTEGER),
        beat_age_seconds=SECONDS,
        poll_seconds=null(SECONDS),
    ),
    "Subscription": shape(
        "One subscription.",
        name=TEXT,
        app=TEXT,
        mode=TEXT,
        types=many(TEXT),
        queue=TEXT,
        ordered=FLAG,
        on_dead=TEXT,
        state=TEXT,
        paused_at=null(TIME),
        paused_by=null(TEXT),
        pause_reason=null(TEXT),
        live_from=INTEGER,
        cursor_position=null(INTEGER),
        head=INTEGER,
        lag_events=INTEGER,
        **_COUNTS,
        blocked_keys=COUNT,
        replaying=FLAG,
        lag_seconds=null(SECONDS),
        condition=words(*_CONDITIONS),
    ),
    "Attention": shape(
        "Something that deserves a look, and the command that shows more or mends it.",
        code=TEXT,
        severity=words("error", "warning", "notice"),
        subject=TEXT,
        message=TEXT,
        hint=TEXT,
    ),
    "Overview": shape(
        "The state of everything. Counted at `at`, and shared by all who ask at about the same time.",
        at=TIME,
        jobs=shape("Open and dead jobs by state.", **_COUNTS),
        oldest_ready_age_seconds=null(SECONDS),
        finished=shape(
            "What ended lately.", minutes=COUNT, succeeded=COUNT, cancelled=COUNT, per_second={"type": "number"}
        ),
        died_in_last_hour=COUNT,
        runners=shape("Runners that should live.", alive=COUNT, silent=COUNT, slots=COUNT, busy=COUNT),
        outbox=shape(
            "Events that nobody has moved yet.", pending=COUNT, oldest_age_seconds=null(SECONDS), head_position=COUNT
        ),
        subscriptions=shape("Subscriptions by condition.", **dict.fromkeys(_CONDITIONS, COUNT)),
        queues=many(ref("Queue")),
        attention=many(ref("Attention")),
    ),
    "Task": shape(
        "A task that a runner registered, and how its starts of the last hour went.",
        name=TEXT,
        queue=null(TEXT),
        version=null(INTEGER),
        max_attempts=null(COUNT),
        last_known=null(TIME),
        runners=COUNT,
        n_1h=COUNT,
        failed_1h=COUNT,
        p50_seconds=null(SECONDS),
        p95_seconds=null(SECONDS),
    ),
    "UnknownTask": shape(
        "A task that jobs wait for and no live runner knows.",
        queue=TEXT,
        task=TEXT,
        version=INTEGER,
        jobs=COUNT,
        ready=COUNT,
        oldest_age_seconds=SECONDS,
    ),
    "DeadGroup": shape(
        "Dead jobs that died of the same fault; in its error numbers and ids are N, quoted parts are cut out.",
        fingerprint=TEXT,
        task=TEXT,
        error_type=null(TEXT),
        error=TEXT,
        n=COUNT,
        first_at=TIME,
        last_at=TIME,
        sample_id=ID,
    ),
    "Change": shape(
        "What a person changed.",
        id=ID,
        at=TIME,
        actor=TEXT,
        action=TEXT,
        target=TEXT,
        jobs=COUNT,
        reason=null(TEXT),
    ),
    "Meta": shape(
        "Which version this is, and what it can do.",
        at=TIME,
        version=TEXT,
        schema_version=INTEGER,
        capabilities=shape("What is switched on.", writes=FLAG, payloads=FLAG),
    ),
}
