"""Errors are written for the person who reads them, and a script can tell them apart."""

from __future__ import annotations

import re

import pytest

from jobrunner import errors
from jobrunner.errors import JobrunnerError

EXAMPLES: list[JobrunnerError] = [
    errors.ConfigError("slots", "must be at least 1"),
    errors.BadDuration("--delay", "5 bananas", "is not a length of time"),
    errors.InputError("reviews.jsonl", "the file is empty"),
    errors.InvalidArguments("shop.pay", ["order_id: field required", "amount: not a number"]),
    errors.PayloadTooLarge("shop.pay", 300_000, 262_144),
    errors.UnstorableText("args.items[3].name", "NUL character"),
    errors.BadName("queue", "", "must not be empty"),
    errors.OutOfBounds("priority", 70_000, "a whole number from -32768 to 32767"),
    errors.Unhealthy(["no runner is alive", "queue mail is paused"]),
    errors.Incompatible(["order.paid v2: amount was removed"], "asyncapi.json"),
    errors.NotFound("job", 42),
    errors.UnknownTask("shop.pya", ["shop.pay"]),
    errors.Conflict("requeue job 42", "it is running"),
    errors.DatabaseUnavailable("host=db password=hunter2", "connection refused\n\tIs the server running?"),
    errors.ReadOnlyServer("host=standby"),
    errors.EmbeddedError("PostgreSQL is not installed", "pip install 'jobrunner[embedded]'"),
    errors.Refused("discard 4,211 jobs"),
    errors.MissingPrivilege("web", "execute jobrunner.enqueue"),
    errors.SchemaMissing(None, 3),
    errors.SchemaTooOld(2, 3),
    errors.SchemaTooNew(4, 3),
    errors.SchemaMismatch(3, 3),
    errors.HandlerError("shop.errors.NoPaper", "tray 2", "Traceback …"),
    errors.StaleLease(42, 2),
]
ABSTRACT = {"JobrunnerError", "InvalidJob"}


def every_class(root: type[JobrunnerError] = JobrunnerError) -> set[type[JobrunnerError]]:
    return {root}.union(*(every_class(child) for child in root.__subclasses__()))


def test_every_error_has_an_example_here() -> None:
    assert {cls.__name__ for cls in every_class()} - ABSTRACT == {type(error).__name__ for error in EXAMPLES}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = {
        name: int(code)
        for name, code in re.findall(r"^[ │├└─]*([A-Z]\w+)(?: \(\w+\))? +(\d)", errors.__doc__ or "", re.MULTILINE)
    }

    assert {cls.__name__: cls.exit_code for cls in every_class()} == drawn


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_is_one_line_that_stands_alone(error: JobrunnerError) -> None:
    message = str(error)

    assert len(message) > 20
    assert message.splitlines() == [message]
    assert not message.endswith(".")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_also_a_builtin_that_callers_already_catch(error: JobrunnerError) -> None:
    assert isinstance(error, ValueError | LookupError | RuntimeError | OSError)


def test_facts_stay_readable_as_attributes() -> None:
    error = errors.PayloadTooLarge("shop.pay", 300_000, 262_144)

    assert (error.task, error.size, error.limit) == ("shop.pay", 300_000, 262_144)
    assert "300,000" in str(error)


def test_many_problems_are_cut_to_five_and_counted() -> None:
    error = errors.InvalidArguments("t", [f"p{n}" for n in range(9)])

    assert len(error.problems) == 9
    assert str(error).endswith("p4 (and 4 more)")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://web:hunter2@db:5432/shop",
        "postgresql://:hunter2@db/shop",
        "postgres://web:hunter2/hunter2@hunter2@db/shop",
        "postgresql://db/shop?user=web&password=hunter2&sslmode=require",
        "host=db password=hunter2 dbname=shop",
        r"host=db PASSWORD = 'hunter2 it\'s hunter2' dbname=shop",
        r"host=db password=hunter2\ hunter2 dbname=shop",
        "host=db password='hunter2 never closed",
    ],
)
def test_no_password_is_in_the_message_or_the_attributes(dsn: str) -> None:
    error = errors.DatabaseUnavailable(dsn, f'missing "=" in "{dsn}"')

    assert "hunter2" not in f"{error} {error.dsn} {error.reason} {error.args}"
    assert "db" in error.dsn


def test_what_is_not_a_password_is_left_alone() -> None:
    assert errors.without_password("postgresql://web@db:5432/shop?a=b") == "postgresql://web@db:5432/shop?a=b"
    assert errors.without_password("host=db passfile=/x") == "host=db passfile=/x"


def test_the_next_step_is_named() -> None:
    assert "jobrunner migrate" in str(errors.SchemaTooOld(2, 3))
    assert "jobrunner migrate" in str(errors.SchemaMissing(None, 3))
    assert "upgrade" in str(errors.SchemaTooNew(4, 3))
    assert "did you mean shop.pay?" in str(errors.UnknownTask("shop.pya", ["shop.pay"]))
    assert "--yes" in str(errors.Refused("discard 4,211 jobs"))


def test_a_value_of_megabytes_or_half_a_character_does_not_reach_the_terminal() -> None:
    error = errors.BadName("key", "\ud800" * 1_000_000, "must be valid Unicode")

    assert len(str(error).encode()) < 200
