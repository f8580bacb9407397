"""What a call really touched: PostgreSQL's own counters of the transaction that it ran in.

Better than EXPLAIN of a copy: the function runs as it is, with its settings, and nothing can differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from tests.store.calls import Connection


@dataclass(frozen=True, slots=True)
class Touched:
    """What one call read of jobs, or of the tables that it was asked about."""

    seq_scans: int
    """Sequential scans."""
    entries: dict[str, int]
    """Entries that each index gave; only indexes that were scanned."""
    blocks: int
    """Blocks of the table and its indexes, counted as often as they were looked at."""

    @property
    def most(self) -> int:
        """What the busiest index gave."""
        return max(self.entries.values(), default=0)


CLAIM: LiteralString = """
select jobrunner.claim_v1(1, 100, array['default'], array[0::smallint], array[%s::bigint], array['shop.t'], array[1::smallint])
"""
"""A hundred jobs above a floor."""

_COUNTERS = """
select
    c.relname, c.relkind,
    pg_stat_get_xact_numscans(c.oid), pg_stat_get_xact_tuples_returned(c.oid), pg_stat_get_xact_blocks_fetched(c.oid)
from pg_class c
where c.oid = any (%(tables)s)
    or c.oid in (select x.indexrelid from pg_index x where x.indrelid = any (%(tables)s))
"""

_TABLES = """
select array(
    select t.name::regclass::oid from unnest(%s::text[]) t (name)
    union all
    select i.inhrelid from unnest(%s::text[]) t (name) join pg_inherits i on i.inhparent = t.name::regclass
)
"""


def touched(
    conn: Connection,
    statement: LiteralString,
    args: Any = None,
    *,
    keep: bool = True,
    tables: Sequence[str] = ("jobrunner.jobs",),
) -> Touched:
    """Runs *statement* in a transaction of its own; rolls it back unless *keep*. Counts *tables*, with their partitions."""
    counted = {"tables": conn.execute(_TABLES, [list(tables), list(tables)]).fetchall()[0][0]}
    with conn.transaction(force_rollback=not keep):
        before = {row[0]: row[1:] for row in conn.execute(_COUNTERS, counted)}
        conn.execute(statement, args)
        after = {row[0]: row[1:] for row in conn.execute(_COUNTERS, counted)}
    grown = {
        name: (kind, *(now - was for now, was in zip(row, before[name][1:], strict=True)))
        for name, (kind, *row) in after.items()
    }
    return Touched(
        seq_scans=sum(scans for kind, scans, _, _ in grown.values() if kind == "r"),
        entries={name: entries for name, (kind, scans, entries, _) in grown.items() if kind == "i" and scans},
        blocks=sum(blocks for *_, blocks in grown.values()),
    )


def autovacuum_off(conn: Connection) -> None:
    """The statistics stay as the test makes them."""
    conn.execute("alter table jobrunner.jobs set (autovacuum_enabled = off)")
