"""The SQL that ships, by name: takes a file name of sql/, returns its text.

`sql/` lies beside the package in a checkout and inside it in a wheel. A missing file fails at import, because every
store module loads its statements into constants.
"""

from __future__ import annotations

from pathlib import Path
from typing import LiteralString

_PACKAGE = Path(__file__).resolve().parents[1]
SQL = next(
    (folder for folder in (_PACKAGE / "sql", _PACKAGE.parent / "sql") if (folder / "schema.sql").is_file()),
    _PACKAGE / "sql",
)
"""Where the SQL files are."""


def text(path: str) -> LiteralString:
    """The text of `sql/{path}`, for psycopg: a file of ours is as literal as a string in the code.

    Raises:
        FileNotFoundError: there is no such file in this installation.
    """
    contents: LiteralString = (SQL / path).read_text(encoding="utf-8")  # pyright: ignore[reportAssignmentType]
    return contents


def query(name: str) -> LiteralString:
    """The statement of `sql/queries/{name}.sql`."""
    return text(f"queries/{name}.sql")


def names(folder: str) -> list[str]:
    """The paths below sql/ of the SQL files in *folder*, sorted."""
    return sorted(f"{folder}/{path.name}" for path in (SQL / folder).glob("*.sql"))
