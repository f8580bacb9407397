"""The logging of one process in another: levels, stream and format, as far as they can be said in words."""

from __future__ import annotations

import importlib
import logging
import sys

from jobrunner.policy.text import type_name
from jobrunner.worker.wire import Logs, Stream

_PLAIN = "logging.Formatter"


def logs_here() -> Logs:
    """How this process logs: the levels, and the root's first handler that writes to stdout or stderr."""
    root = logging.getLogger()
    levels = {
        name: logger.level
        for name, logger in root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and logger.level
    }
    for handler in root.handlers:
        stream = getattr(handler, "stream", None)
        if stream is not None and stream in (sys.stdout, sys.stderr):
            form = handler.formatter or logging.Formatter()
            module, _, name = type_name(type(form)).rpartition(".")
            where: Stream = "stdout" if stream is sys.stdout else "stderr"
            return Logs(root.level, levels, where, (module, name), getattr(form, "_fmt", None), form.datefmt)
    return Logs(root.level, levels, None, ("logging", "Formatter"), None, None)


def log_like(logs: Logs) -> None:
    """Log as *logs* says; without a stream as a process that has configured nothing."""
    logging.getLogger().setLevel(logs.level)
    for name, level in logs.levels.items():
        logging.getLogger(name).setLevel(level)
    if logs.stream is not None:
        handler = logging.StreamHandler(sys.stdout if logs.stream == "stdout" else sys.stderr)
        handler.setFormatter(_formatter(logs))
        logging.getLogger().addHandler(handler)


def _formatter(logs: Logs) -> logging.Formatter:
    module, name = logs.formatter
    if f"{module}.{name}" != _PLAIN:
        try:
            made: object = getattr(importlib.import_module(module), name)()
        except Exception:  # one that takes arguments, or is nowhere at the top: its lines are still worth having
            made = None
        if isinstance(made, logging.Formatter):
            return made
    return logging.Formatter(logs.form, logs.dates)
