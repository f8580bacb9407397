"""How subscriptions and walks over the log look: takes rows, returns what rich prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.ops.attention import condition
from jobrunner.ops.cli import output
from jobrunner.store.event_rows import BlockedKeyRow, ReplayRow, SubscriptionRow


def subscription_table(rows: Sequence[SubscriptionRow]) -> RenderableType:
    """Subscriptions as a table, one a line."""
    return output.table(
        "subscription", "state", ">behind", ">lag", ">running", ">retrying", ">dead", "note",
        rows=(
            (
                row.name,
                _state(row),
                output.count(row.lag_events),
                output.rough(row.lag),
                output.count(row.running),
                output.count(row.retrying, "yellow"),
                output.count(row.dead, "bold red"),
                _note(row),
            )
            for row in rows
        ),
        flexible="note",
        empty="no subscriptions; a runner makes those of its app when it starts",
    )  # fmt: skip


def subscription_detail(
    row: SubscriptionRow, keys: Sequence[BlockedKeyRow], walks: Sequence[ReplayRow], now: datetime
) -> RenderableType:
    """One subscription with its blocked keys and walks."""
    kind = "stream" if row.mode == "stream" else "ordered queue" if row.ordered else "queue"
    counts = ("ready", "scheduled", "retrying", "blocked", "running", "dead")
    counted = ", ".join(f"{getattr(row, one):,} {one}" for one in counts if getattr(row, one)) or "none"
    cursor = None if row.cursor_position is None else f"{row.cursor_position:,} of {row.head:,}"
    lag = f"{output.many(row.lag_events, 'event')}, the oldest for {output.rough(row.lag)}" if row.lag else None
    parts: list[RenderableType] = [
        Text.assemble((f"{row.name}  ", "bold"), _state(row)),
        Text(),
        output.facts(
            [
                ("app", row.app),
                ("takes", ", ".join(row.types)),
                ("kind", f"{kind}, on_dead {row.on_dead}"),
                ("queue", row.queue),
                ("open", counted if row.mode == "queue" else None),
                ("behind", lag or output.many(row.lag_events, "event")),
                ("cursor", cursor),
                ("live from", f"position {row.live_from:,}"),
                ("paused", _paused(row, now)),
                ("blocked", Text(_many_keys(row.blocked_keys), style="red") if row.blocked_keys else None),
            ]
        ),
    ]
    if keys:
        more = f"and {row.blocked_keys - len(keys):,} more; " if row.blocked_keys > len(keys) else ""
        parts += [Text(), key_table(keys, now), Text(f"{more}{_resolve(keys[0])}", style="dim")]
    if walks:
        parts += [Text(), replay_table(walks, now)]
    return Group(*parts)


def key_table(keys: Sequence[BlockedKeyRow], now: datetime) -> RenderableType:
    """Blocked keys as a table."""
    return output.table(
        "blocked key", ">waiting", "since", "job", ">event", "error",
        rows=(
            (
                one.key,
                output.count(one.waiting),
                f"{output.rough(now - one.since)} ago",
                str(one.job_id),
                "" if one.position is None else str(one.position),
                Text(" ".join((one.error or one.reason or "").split()), style="red"),
            )
            for one in keys
        ),
        flexible="error",
    )  # fmt: skip


def replay_table(walks: Sequence[ReplayRow], now: datetime) -> RenderableType:
    """Walks over the log as a table."""
    return output.table(
        "walk", "subscription", "kind", "state", ">done", ">deliveries", ">rate", "left", "note",
        rows=(
            (
                str(one.id),
                one.subscription,
                one.kind,
                output.state(one.state),
                "" if one.percentage is None else f"{one.percentage:g} %",
                output.count(one.delivered),
                "" if one.rate is None else f"{one.rate:,.0f}/s",
                output.rough(one.estimated_completion - now) if one.estimated_completion else "",
                _walk_note(one),
            )
            for one in walks
        ),
        flexible="note",
        empty="no walks over the log; start one with: jobrunner replay start NAME",
    )  # fmt: skip


def _walk_note(walk: ReplayRow) -> Text:
    if walk.failed:
        return Text(f"{walk.failed:,} dead", style="red")
    if walk.message.startswith("waits"):
        return Text(walk.message, style="yellow")
    span = f"{walk.from_after:,} to {walk.upto:,}, by {walk.actor}"
    return Text(f"{span}: {walk.reason}" if walk.reason else span, style="dim")


def _state(row: SubscriptionRow) -> Text:
    found = condition(row)
    shown = "live" if found == "ok" else found
    return Text(shown.replace("_", " "), style=output.STYLES.get(shown, ""))


def _note(row: SubscriptionRow) -> Text:
    if row.paused_at is not None:
        return Text(f"by {row.paused_by}{f': {row.pause_reason}' if row.pause_reason else ''}", style="yellow")
    if row.blocked_keys:
        return Text(_many_keys(row.blocked_keys), style="red")
    kind = "stream" if row.mode == "stream" else "ordered" if row.ordered else ""
    return Text(", ".join(part for part in (kind, "replaying" if row.replaying else "") if part), style="dim")


def _many_keys(number: int) -> str:
    return f"{output.many(number, 'key')} behind a dead delivery"


def _paused(row: SubscriptionRow, now: datetime) -> Text | None:
    if row.paused_at is None:
        return None
    because = f": {row.pause_reason}" if row.pause_reason else ""
    return Text(f"for {output.rough(now - row.paused_at)} by {row.paused_by}{because}", style="yellow")


def _resolve(key: BlockedKeyRow) -> str:
    return f"to free one: jobrunner subs resolve {key.subscription} {shlex.quote(key.key)} retry|discard"
