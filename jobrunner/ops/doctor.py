"""What may go wrong tomorrow, each with its cure: takes what was read of the server, returns findings. Pure.

`attention` has what is wrong with the work now; doctor shows both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeAlias

from jobrunner.ops.attention import Attention
from jobrunner.policy.durations import brief
from jobrunner.store.condition import BlockerRow, Deaths, LockRow, ServerRow, TableRow
from jobrunner.store.migrate import SCHEMA_VERSION, Installed
from jobrunner.store.rows import RunnerRow

OLDEST_SERVER = 14
_MANY_DEAD_ROWS, _DEAD_SHARE = 50_000, 30.0  # rows, and per cent: autovacuum does not keep up
_FULL_QUEUE = 0.1  # of the notifications: a listener sits in a transaction
_FEW_SESSIONS_LEFT = 0.9  # of max_connections in use
_GROWTH, _FEW_DEATHS = 3, 10  # times the usual deaths an hour, and at least so many, are news
_DAYS_AHEAD = 2
_DROPPED_LATE = 3  # days that a partition may be older than its retention says: the rest of a day, and a held log


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to judge."""

    server: ServerRow
    installed: Installed
    tables: Sequence[TableRow]
    blockers: Sequence[BlockerRow]
    runners: Sequence[RunnerRow]
    deaths: Deaths
    today: date


Findings: TypeAlias = Iterator[Attention]


@dataclass(frozen=True, slots=True)
class Examination:
    """One thing that was looked at, and what was found."""

    name: str
    findings: list[Attention]


def examine(facts: Facts, work: Sequence[Attention]) -> list[Examination]:
    """Everything that was looked at, in the order of a reading; *work* is what `attention` found."""
    parts = {
        "server": _of_server(facts.server),
        "schema": _of_schema(facts),
        "privileges": _of_privileges(facts.server),
        "vacuum": _of_vacuum(facts),
        "snapshots": _of_blockers(facts.blockers),
        "partitions": _of_partitions(facts),
        "runners": _of_versions(facts),
        "deaths": _of_deaths(facts.deaths),
    }
    # Told better here: with who it is, and for every table.
    ours = [one for one in work if one.code not in {"old_transaction", "partitions_short"}]
    return [*(Examination(name, list(found)) for name, found in parts.items()), Examination("work", ours)]


def examine_locks(holders: Sequence[LockRow]) -> list[Examination]:
    """What there is to say where the tables cannot be read, because *holders* have, or wait for, the whole of one."""
    return [Examination("locks", list(_of_locks(holders)))]


def _of_locks(holders: Sequence[LockRow]) -> Findings:
    for one in holders:
        who = ", ".join(filter(None, (f"role {one.role}" if one.role else "", one.application)))
        since = "" if one.age is None else f" for {brief(timedelta(seconds=int(one.age.total_seconds())))}"
        message = (
            f"pid {one.pid} ({who}) has locked table {one.table_name}, or waits to{since}: everybody waits behind it"
        )
        yield Attention("table_locked", "error", one.table_name, message, f"select pg_terminate_backend({one.pid})")
    if not holders:
        message = "a table was locked until now, and could not be looked at"
        yield Attention("table_locked", "error", "", message, "jobrunner doctor, once more")


def _of_server(server: ServerRow) -> Findings:
    if server.major < OLDEST_SERVER:
        message = f"PostgreSQL {server.major} is older than {OLDEST_SERVER}, the oldest that is supported"
        yield Attention("server_too_old", "error", "", message, "upgrade the server")
    if server.encoding != "UTF8":
        message = f"the database has the encoding {server.encoding}: texts that it cannot write fail their job"
        yield Attention("encoding", "error", "", message, "create the database with encoding UTF8, and restore into it")
    if server.is_standby:
        message = "this is a standby: people can look, runners cannot work"
        yield Attention("standby", "notice", "", message, "connect runners to the primary")
    if server.notifications > _FULL_QUEUE:
        message = (
            f"the queue of notifications is {server.notifications:.0%} full: a session that listens sits in a transaction; "
            "when it is full, every commit that notifies fails"
        )
        hint = "select pid, query from pg_stat_activity where state like 'idle in transaction%' order by xact_start"
        yield Attention("notifications_stuck", "error", "", message, hint)
    if server.sessions > _FEW_SESSIONS_LEFT * server.max_connections:
        message = f"{server.sessions} of {server.max_connections} connections are in use: runners may not come back"
        yield Attention("connections_short", "warning", "", message, "raise max_connections, or put a pooler in front")


def _of_schema(facts: Facts) -> Findings:
    if facts.server.missing_functions:
        some, rest = facts.server.missing_functions[:3], len(facts.server.missing_functions) - 3
        message = f"the schema lacks {', '.join(some)}{f' and {rest} more functions' if rest > 0 else ''}"
        yield Attention("schema_incomplete", "error", "", message, "jobrunner migrate")
    if facts.installed.version > SCHEMA_VERSION:
        message = f"the schema has version {facts.installed.version} and this library knows {SCHEMA_VERSION}; it still serves it"
        yield Attention("schema_newer", "notice", "", message, "upgrade jobrunner in this environment")
    if len(facts.server.owners) > 1:
        message = (
            f"the schema has several owners ({', '.join(facts.server.owners)}): a migration by one of them may fail"
        )
        yield Attention("owners_differ", "warning", "", message, "jobrunner sql roles | psql, as a superuser")


def _of_privileges(server: ServerRow) -> Findings:
    if server.open_to_all:
        message = f"everybody who may connect may execute {server.open_to_all} of the functions"
        yield Attention("functions_open", "warning", "", message, "jobrunner sql roles | psql, as a superuser")
    if not server.sees_all_sessions:
        message = f"role {server.role} sees its own sessions only: who holds old snapshots may stay hidden here"
        yield Attention(
            "sessions_hidden", "notice", server.role, message, f"grant pg_read_all_stats to {_name(server.role)}"
        )


def _of_vacuum(facts: Facts) -> Findings:
    if not (facts.server.autovacuum and facts.server.track_counts):
        message = "autovacuum is off: dead rows stay, and every table grows"
        yield Attention(
            "autovacuum_off", "error", "", message, "alter system set autovacuum = on, track_counts too, and reload"
        )
    for table in facts.server.never_vacuumed:
        message = f"autovacuum is switched off for {table}"
        hint = f"alter table jobrunner.{table} reset (autovacuum_enabled)"
        yield Attention("autovacuum_off", "error", table, message, hint)
    for row in facts.tables:
        if row.dead > _MANY_DEAD_ROWS and (row.dead_pct or 0) > _DEAD_SHARE:
            message = f"{row.table_name} has {row.dead:,} dead rows ({row.dead_pct:g} %): autovacuum does not keep up"
            hint = "mend what is said of snapshots first" if facts.blockers else f"vacuum jobrunner.{row.table_name}"
            yield Attention("dead_rows", "warning", row.table_name, message, hint)


def _of_blockers(blockers: Sequence[BlockerRow]) -> Findings:
    for one in blockers:
        who = f"role {one.role}" if one.role else ""
        by = f", {one.application}" if one.application else ""
        age = "" if one.age is None else brief(timedelta(seconds=int(one.age.total_seconds())))
        match one.kind:
            case "prepared":
                message = f"transaction {one.name}, prepared by {who}, has waited for {age} to be committed"
                yield Attention(
                    "old_snapshot", "warning", one.name or "", message, f"rollback prepared {_literal(one.name)}"
                )
            case "slot":
                message = f"replication slot {one.name} holds a snapshot that is {one.xmin_age:,} transactions old"
                hint = f"select pg_drop_replication_slot({_literal(one.name)}), if nobody needs it"
                yield Attention("old_snapshot", "warning", one.name or "", message, hint)
            case _:
                does = "does nothing in a transaction" if one.kind == "idle_in_tx" else "is in a transaction"
                message = f"pid {one.pid} ({who}{by}) {does} since {age}: no table can be cleaned up behind it"
                yield Attention(
                    "old_snapshot", "warning", str(one.pid), message, f"select pg_terminate_backend({one.pid})"
                )


def _of_partitions(facts: Facts) -> Findings:
    for row in facts.tables:
        if row.partitions_ahead is None:
            continue
        if row.partitions_ahead < _DAYS_AHEAD:
            days = f"{row.partitions_ahead} day{'s' * (row.partitions_ahead != 1)}"
            message = f"{row.table_name} has partitions for {days} ahead only"
            yield Attention(
                "partitions_short", "warning", row.table_name, message, "jobrunner migrate, or start a runner"
            )
        old = (facts.today - row.oldest_partition).days if row.oldest_partition else 0
        if row.kept is not None and old > row.kept.days + _DROPPED_LATE:
            message = f"{row.table_name} still has {row.oldest_partition}, and days are kept for {row.kept.days}"
            held = row.table_name == "events"
            hint = "jobrunner subs list: who lags holds it" if held else "look for retention in the logs of the runners"
            yield Attention("partitions_old", "warning", row.table_name, message, hint)


def _of_versions(facts: Facts) -> Findings:
    alive = [one for one in facts.runners if one.state == "alive"]
    versions = sorted({one.version for one in alive})
    if len(versions) > 1:
        message = f"runners of different versions are alive: {', '.join(versions)}"
        yield Attention(
            "version_skew", "notice", "", message, "finish the deployment: jobrunner runners --json names them"
        )
    for one in alive:
        newest = one.schema_newest or 2
        if newest < facts.installed.version:
            where = f"{one.host}:{one.pid}"
            message = (
                f"runner {where} was written for schema {newest}, and this one has version {facts.installed.version}"
            )
            yield Attention("runner_older", "notice", where, message, "upgrade jobrunner where it runs")


def _of_deaths(deaths: Deaths) -> Findings:
    if deaths.last_hour >= max(_FEW_DEATHS, _GROWTH * deaths.usual):
        message = f"{deaths.last_hour:,} jobs died within the last hour, usually {deaths.usual:g}"
        yield Attention("dead_growth", "warning", "", message, "jobrunner dead groups")


def _literal(text: str | None) -> str:
    """*text* as SQL writes it."""
    return "'" + (text or "").replace("'", "''") + "'"


def _name(name: str) -> str:
    """*name* as SQL writes it: in quotes where it is no plain word."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
