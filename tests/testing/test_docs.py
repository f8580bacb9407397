"""The examples of docs/testing.md run as printed, by pytest with the plugin as it is installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psycopg
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
pytest_plugins = ["pytester"]


def blocks() -> dict[str, str]:
    return dict(
        re.findall(r"<!-- this block runs as printed: (\S+) -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    )


def test_the_page_runs_as_printed(pytester: pytest.Pytester, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks()
    assert list(found) == ["shop.py", "conftest.py", "test_shop.py"]
    for name, text in found.items():
        pytester.path.joinpath(name).write_text(text)
    pytester.makeini("[pytest]\nanyio_mode = auto\nfilterwarnings = error\npythonpath = .\n")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table ledger (order_id uuid, amount numeric)")
    monkeypatch.setenv("SHOP_TEST_DSN", dsn)
    monkeypatch.delitem(sys.modules, "shop", raising=False)  # of another test

    ran = pytester.runpytest("-p", "no:cacheprovider", "-k", "not trio")

    ran.assert_outcomes(passed=4)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select count(*) from jobrunner.v_job").fetchone() == (0,)


def test_the_page_names_everything_there_is() -> None:
    import jobrunner.testing

    page = PAGE.read_text()
    assert [name for name in jobrunner.testing.__all__ if f"`{name}" not in page and f"{name}(" not in page] == []
