"""What psycopg and libpq say, in our words: the right class, what to do, and never a password. No server is needed."""

from __future__ import annotations

import psycopg
import pytest

from jobrunner.errors import DatabaseUnavailable, JobrunnerError, ReadOnlyServer
from jobrunner.store.failures import in_our_words, told_plainly

REFUSED = """connection failed: connection to server at "::1", port 1 failed: Connection refused
\tIs the server running on that host and accepting TCP/IP connections?"""
FATAL = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  '


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (FATAL + 'password authentication failed for user "me"', DatabaseUnavailable, "; check the user and the password"),
        (FATAL + 'database "x" does not exist', DatabaseUnavailable, 'database "x" does not exist; check the name'),
        (FATAL + "sorry, too many clients already", DatabaseUnavailable, "put a pooler in front"),
        (FATAL + "the database system is starting up", DatabaseUnavailable, "try again in a moment"),
        (FATAL[:-8] + "session is read-only", ReadOnlyServer, "connect to the primary"),
        (REFUSED, DatabaseUnavailable, "Connection refused; check the address and that the server runs"),
        (
            "Multiple connection attempts failed. All failures were:\n- host: a: connection timeout expired\n- host: b: no route",
            DatabaseUnavailable,
            "host: b: no route",
        ),
        ("", DatabaseUnavailable, "no connection"),
    ],
)  # fmt: skip
def test_a_failed_connection_says_what_to_do(said: str, kind: type[JobrunnerError], words: str) -> None:
    error = in_our_words(psycopg.OperationalError(said), "postgresql://me:secret@host/x")

    assert type(error) is kind
    assert words in str(error)
    assert "secret" not in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres//me:secret@host",
        "postgresql://me:secret/x@127.0.0.1:1/db",
        "postgresql://me:a@secret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=secret",
        "host=127.0.0.1 port=1 password = 'secret' options",
        "postgresql://127.0.0.1:1/db?password=secret",
    ],
)
def test_a_password_in_a_wrong_address_is_not_shown(dsn: str) -> None:
    with pytest.raises(JobrunnerError) as caught, told_plainly(dsn):
        psycopg.connect(dsn, connect_timeout=2)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "role"), [("host=x user=web", "web"), ("postgresql://api@x/db", "api"), ("host=x", "from_libpq")]
)
def test_a_missing_privilege_names_the_role_of_the_address(
    dsn: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGUSER", "from_libpq")

    error = in_our_words(psycopg.errors.InsufficientPrivilege("permission denied for table jobs"), dsn)

    assert str(error).startswith(f"the database role {role} may not use table jobs; ")
