"""Every error that jobrunner raises, each a sentence that says what is wrong and what to do.

The tree; the number is the exit code that the command line ends with:

    JobrunnerError                       1
    ├── ConfigError (ValueError)         2   a setting or an option is wrong
    │   └── BadDuration                  2
    ├── InputError (ValueError)          2   an input file cannot be read
    ├── InvalidJob (ValueError)          2   a call that must not reach the database
    │   ├── InvalidArguments             2
    │   ├── PayloadTooLarge              2
    │   ├── UnstorableText               2
    │   ├── BadName                      2
    │   └── OutOfBounds                  2
    ├── Unhealthy (RuntimeError)         3
    │   └── Incompatible                 3   an event changed under its readers
    ├── NotFound (LookupError)           4
    ├── UnknownTask (LookupError)        4
    ├── Conflict (RuntimeError)          5   the row is not in a state that allows it
    ├── DatabaseUnavailable              6   (ConnectionError)
    │   └── ReadOnlyServer               6
    ├── EmbeddedError (RuntimeError)     6
    ├── Refused (PermissionError)        7   a person has to confirm it
    ├── MissingPrivilege                 1   (PermissionError)
    ├── SchemaMismatch (RuntimeError)    1
    │   ├── SchemaMissing                1
    │   ├── SchemaTooOld                 1
    │   └── SchemaTooNew                 1
    ├── HandlerError (RuntimeError)      1   what was raised in another process, as text
    └── StaleLease (RuntimeError)        1   another runner holds the job now

(long because: one small class for each thing that can go wrong, with its sentence)

A class takes facts, keeps them as attributes and builds its one-line message from them.
What a handler answers (retry, snooze, …) is a value, never an exception: see `jobrunner.policy.outcomes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

_PASSWORD = re.compile(
    r"""(?P<uri>://[^:/?\#@\s]*:)\S*(?=@)                              # user:secret@host, even a secret with / and @
      | (?P<word>\bpassword\s*=\s*)(?: '(?:[^'\\]|\\.)*(?:'|$) | (?:[^\s&'\\]|\\.)+ )  # password=secret, quoted or bare
    """,
    re.VERBOSE | re.IGNORECASE,
)


def without_password(text: str) -> str:
    """*text*, a connection string or a message about one, with every password in it as `***`."""
    return _PASSWORD.sub(lambda found: f"{found['uri'] or found['word']}***", text)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _shown(value: object) -> str:
    """What was given, short and printable, for a person to recognise it."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:70]}… ({len(shown)} characters)"


class JobrunnerError(Exception):
    """The root: `except JobrunnerError` catches everything that jobrunner itself raises."""

    exit_code: ClassVar[int] = 1


class ConfigError(JobrunnerError, ValueError):
    """A setting, an option or a declaration has a value that cannot work."""

    exit_code = 2

    def __init__(self, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(_one_line(f"{what} {without_password(problem)}"))


class BadDuration(ConfigError):
    """A length of time that cannot be read or is out of range."""

    def __init__(self, what: str, value: object, problem: str) -> None:
        self.value = value
        super().__init__(what, f"{problem}, got {_shown(value)}; write it like 250ms, 30s, 5m, 1h30m, 7d or 2w")


class InputError(JobrunnerError, ValueError):
    """An input file is missing, empty or not what it should be."""

    exit_code = 2

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(_one_line(f"cannot read {source}: {problem}"))


class InvalidJob(JobrunnerError, ValueError):
    """A call that the database would refuse or no runner could run; nothing was sent."""

    exit_code = 2


class InvalidArguments(InvalidJob):
    """Arguments that do not fit the task or are not JSON."""

    def __init__(self, task: str, problems: Sequence[str]) -> None:
        self.task, self.problems = task, tuple(problems)
        told, rest = "; ".join(self.problems[:5]), len(self.problems) - 5
        super().__init__(_one_line(f"invalid arguments for {task}: {told}{f' (and {rest} more)' if rest > 0 else ''}"))


class PayloadTooLarge(InvalidJob):
    """A payload over the limit; sizes are bytes of JSON."""

    def __init__(self, task: str, size: int, limit: int) -> None:
        self.task, self.size, self.limit = task, size, limit
        super().__init__(
            f"the payload of {task} is {size:,} bytes of JSON and the limit is {limit:,}; "
            "store the data in a table or a file and pass its id"
        )


class UnstorableText(InvalidJob):
    """Text that no PostgreSQL json or text value can hold; *path* is like `args.items[3].name`."""

    def __init__(self, path: str, kind: Literal["NUL character", "lone surrogate"]) -> None:
        self.path, self.kind = path, kind
        super().__init__(f"{path} contains a {kind}, which PostgreSQL cannot store; remove it before you enqueue")


class BadName(InvalidJob):
    """A task, queue, key or subject that is empty, too long or unprintable."""

    def __init__(self, what: str, value: object, reason: str) -> None:
        self.what, self.value, self.reason = what, value, reason
        super().__init__(f"{what} {reason}, got {_shown(value)}")


class OutOfBounds(InvalidJob):
    """An option outside its bounds; *bounds* reads after "must be"."""

    def __init__(self, what: str, value: object, bounds: str) -> None:
        self.what, self.value, self.bounds = what, value, bounds
        super().__init__(f"{what} must be {bounds}, got {_shown(value)}")


class Unhealthy(JobrunnerError, RuntimeError):
    """A health check found something that a person should mend."""

    exit_code = 3

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_one_line(f"unhealthy: {'; '.join(self.problems)}"))


class Incompatible(Unhealthy):
    """The events of an app no longer fit what an earlier document of them promised."""

    def __init__(self, problems: Sequence[str], source: str) -> None:
        self.problems, self.source = tuple(problems), source
        told, rest = "; ".join(self.problems[:3]), len(self.problems) - 3
        more = f" (and {rest} more)" if rest > 0 else ""
        super(Unhealthy, self).__init__(
            _one_line(f"incompatible with {source}: {told}{more}; undo it, or give the event a new version")
        )


class NotFound(JobrunnerError, LookupError):
    """A job, queue or schedule that does not exist (any more)."""

    exit_code = 4

    def __init__(self, what: str, name: object, remedy: str = "it never was, or its history was dropped") -> None:
        self.what, self.name, self.remedy = what, name, remedy
        super().__init__(_one_line(f"there is no {what} {name}; {remedy}"))


class UnknownTask(JobrunnerError, LookupError):
    """A task name that nobody registered; *near* holds the registered names most like it, *force* what takes it all the same."""

    exit_code = 4

    def __init__(self, name: str, near: Sequence[str] = (), force: str = "") -> None:
        self.name, self.near = name, tuple(near)
        remedy = f"did you mean {' or '.join(self.near)}?" if near else "check the name and that its module is imported"
        told = f"{remedy} ({force} takes it all the same)" if force else remedy
        super().__init__(f"unknown task {_shown(name)}; {told}")


class Conflict(JobrunnerError, RuntimeError):
    """The row is not in a state that allows *action* (an infinitive: "requeue job 42")."""

    exit_code = 5

    def __init__(self, action: str, reason: str) -> None:
        self.action, self.reason = action, reason
        super().__init__(_one_line(f"cannot {action}: {reason}"))


class DatabaseUnavailable(JobrunnerError, ConnectionError):
    """No usable connection; neither message nor attributes hold a password."""

    exit_code = 6
    _remedy: ClassVar[str] = "check the address and that the server runs"

    def __init__(self, dsn: str, reason: str, remedy: str | None = None) -> None:
        self.dsn, self.reason = without_password(dsn), _one_line(without_password(reason))
        super().__init__(
            f"cannot use the database at {self.dsn or '(libpq defaults)'}: {self.reason}; {remedy or self._remedy}"
        )


class ReadOnlyServer(DatabaseUnavailable):
    """The server answers but takes no writes: a standby, or `default_transaction_read_only`."""

    _remedy = "connect to the primary (target_session_attrs=read-write finds it)"

    def __init__(self, dsn: str, reason: str = "the server is read-only") -> None:
        super().__init__(dsn, reason)


class EmbeddedError(JobrunnerError, RuntimeError):
    """The private PostgreSQL server cannot be used."""

    exit_code = 6

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(_one_line(f"{problem}; {remedy}" if remedy else problem))


class Refused(JobrunnerError, PermissionError):
    """*action* ("discard 4,211 jobs") waits for a person to confirm it with *flag*."""

    exit_code = 7

    def __init__(self, action: str, flag: str = "--yes") -> None:
        self.action, self.flag = action, flag
        super().__init__(_one_line(f"will not {action} without {flag}; add it if you mean it"))


class MissingPrivilege(JobrunnerError, PermissionError):
    """The database role may not do *what* ("use function enqueue")."""

    def __init__(self, role: str, what: str) -> None:
        self.role, self.what = role, what
        super().__init__(
            _one_line(
                f"the database role {role} may not {what}; grant it the role that may (`jobrunner sql roles` has them all), "
                "or connect as one that has it"
            )
        )


class SchemaMismatch(JobrunnerError, RuntimeError):
    """The schema in the database is not the one that this library was written for (*found*, *wanted*: versions)."""

    def __init__(self, found: int | None, wanted: int, problem: str = "does not fit; run `jobrunner migrate`") -> None:
        self.found, self.wanted = found, wanted
        super().__init__(f"the jobrunner schema in this database {problem}")


class SchemaMissing(SchemaMismatch):
    """The database has no jobrunner schema yet."""

    def __init__(self, found: int | None, wanted: int) -> None:
        super().__init__(found, wanted, f"is missing (version {wanted} is needed); run `jobrunner migrate`")


class SchemaTooOld(SchemaMismatch):
    """The database waits for a migration."""

    def __init__(self, found: int | None, wanted: int) -> None:
        super().__init__(found, wanted, f"has version {found} and this library needs {wanted}; run `jobrunner migrate`")


class SchemaTooNew(SchemaMismatch):
    """A newer library has migrated the database."""

    def __init__(self, found: int | None, wanted: int) -> None:
        super().__init__(
            found, wanted, f"has version {found} and this library knows {wanted}; upgrade jobrunner in this environment"
        )


class HandlerError(JobrunnerError, RuntimeError):
    """What a handler raised in another process, in words: *type*, *message* and *traceback* (all text)."""

    def __init__(self, type: str, message: str, traceback: str = "") -> None:  # noqa: A002
        self.type, self.message, self.traceback = type, message, traceback
        super().__init__(_one_line(f"{type}: {message}"))


class StaleLease(JobrunnerError, RuntimeError):
    """The claim behind this attempt is gone: nothing was written, and another attempt has or will have the job."""

    def __init__(self, job_id: int, attempt: int) -> None:
        self.job_id, self.attempt = job_id, attempt
        super().__init__(
            f"attempt {attempt} no longer holds job {job_id}: its lease ran out or a person ended it; "
            "nothing was written, let the other attempt finish"
        )
