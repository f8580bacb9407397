"""Logs of a process that runs: one line a record on stderr, as text for a person or as JSON for a machine."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, form: str, **added: object) -> None:
    """Sends everything from *level* on to stderr; *form*: text or json; *added*: to every record. Replaces what was configured
    before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())

    def add(record: logging.LogRecord) -> bool:
        vars(record).update(added)
        return True

    handler.addFilter(add)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """`14:03:07.123 WARNING jobrunner  message  job_id=7`: UTC, then what was added to the record."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        added = "".join(f"  {name}={value}" for name, value in _added(record).items())
        line = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d} {record.levelname:7} {record.name}  {record.getMessage()}{added}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One object a line: at, level, logger, message, what was added to the record, and error with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_added(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _added(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}
