"""`jobrunner doctor`: looks at everything once, and says of each finding how to mend it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import typer
from psycopg.errors import LockNotAvailable
from rich.console import Group, RenderableType
from rich.text import Text

from jobrunner.errors import Unhealthy
from jobrunner.ops import attention, doctor
from jobrunner.ops.attention import SEVERITIES
from jobrunner.ops.cli import output
from jobrunner.ops.cli.session import Connection, Session, command
from jobrunner.ops.cli.status import finding
from jobrunner.ops.doctor import Examination
from jobrunner.ops.look import look
from jobrunner.store import condition, overview
from jobrunner.store.migrate import installed

PATIENCE = "3s"
"""How long it waits for a table that somebody has locked."""

top = typer.Typer()


@command(top, "doctor")
def examine(session: Session) -> None:
    """Look at the server, the schema and the work, and say of each finding how to mend it.

    Exits with 3 when there is an error or a warning. Reads the whole table of jobs.
    """
    with session.connect() as conn:
        at = overview.clock(conn)
        try:
            with conn.transaction():
                conn.execute("select set_config('lock_timeout', %s, true)", [PATIENCE])
                found = doctor.examine(_facts(conn), look(conn).attention)
        except LockNotAvailable:
            found = doctor.examine_locks(condition.lock_holders(conn))
    bad = [one for part in found for one in part.findings if one.severity != "notice"]
    shape = {
        "at": at,
        "status": "fail" if bad else "pass",
        "checks": [
            {"name": part.name, "findings": [dataclasses.asdict(one) for one in part.findings]} for part in found
        ],
    }
    session.show(lambda: shape, lambda: _view(found))
    if bad:
        raise Unhealthy([output.many(len(bad), "finding") + " to mend"])


def _facts(conn: Connection) -> doctor.Facts:
    there = installed(conn)
    assert there is not None, "a session checks it"
    return doctor.Facts(
        server=condition.server(conn),
        installed=there,
        tables=condition.tables(conn),
        blockers=condition.blockers(conn, attention.LONG_TRANSACTION),
        runners=overview.list_runners(conn),
        deaths=condition.deaths(conn),
        today=overview.clock(conn).date(),
    )


def _view(found: Sequence[Examination]) -> RenderableType:
    well = [part.name for part in found if not part.findings]
    bad = sorted((one for part in found for one in part.findings), key=lambda one: SEVERITIES.index(one.severity))
    fine = output.hanging(Text("ok       ", "green"), Text(", ".join(well))) if well else Text()
    return Group(fine, *map(finding, bad))
