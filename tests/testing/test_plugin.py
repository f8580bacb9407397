"""The fixtures for pytest: found by themselves, and plain about what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Connection

pytest_plugins = ["pytester"]


def test_what_is_missing_is_told_in_a_sentence(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, jobrunner_dsn: str, bare_dsn: str
) -> None:
    monkeypatch.delenv("JOBRUNNER_TEST_DSN", raising=False)
    pytester.makepyfile(
        test_no_dsn="def test_it(jobrunner_conn): ...",
        test_no_schema=f"""
            import pytest

            @pytest.fixture
            def jobrunner_dsn():
                return {bare_dsn!r}

            def test_it(jobrunner_conn): ...
        """,
        test_no_job=f"""
            import pytest
            from jobrunner import Job
            from jobrunner.testing import assert_enqueued

            @pytest.fixture
            def jobrunner_dsn():
                return {jobrunner_dsn!r}

            def test_it(jobrunner_conn):
                assert_enqueued(Job("shop.t"))
        """,
    )

    ran = pytester.runpytest("-p", "no:cacheprovider")

    ran.assert_outcomes(errors=2, failed=1)
    ran.stdout.fnmatch_lines_random(
        [
            "which database? override the fixture jobrunner_dsn in conftest.py, or set JOBRUNNER_TEST_DSN",
            "E *SchemaMissing: *run `jobrunner migrate`",
            "*AssertionError: no job was enqueued like",
            "test_no_job.py:10: AssertionError",
        ]
    )


def test_the_session_is_one_in_both_colours(jobrunner_conn: Connection, jobrunner_aconn: object) -> None:
    assert getattr(jobrunner_aconn, "pgconn") is jobrunner_conn.pgconn  # noqa: B009


def test_the_test_kit_needs_no_pytest() -> None:
    code = "import sys, jobrunner.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plugin_itself_imports_nothing_before_a_fixture_is_used() -> None:
    import jobrunner.testing.plugin

    lines = Path(jobrunner.testing.plugin.__file__).read_text().splitlines()
    assert [line for line in lines if line.startswith(("import jobrunner", "from jobrunner", "import psycopg"))] == []
