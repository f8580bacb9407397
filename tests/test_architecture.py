"""The rules of the house that a tool can hold: floors, sizes, SQL that stays fast, nothing that is there for nobody."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "jobrunner").rglob("*.py"))
SQL = sorted((ROOT / "sql").rglob("*.sql"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

LONGEST = 250
EXCUSE = "long because:"

CLAUSES = frozenset({
    "select", "from", "where", "on", "having", "set", "values", "returning", "order", "group", "limit", "union",
    "insert", "update", "delete", "with", "if", "while", "return",
})  # fmt: skip
TESTING = frozenset({"where", "on", "having"})


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)


def clock_conditions(sql: str) -> list[str]:
    """What leads to each `clock_timestamp()` in a condition that is not a `(select clock_timestamp())`."""
    found = []
    clauses = [""]  # the clause we are in, one for each open parenthesis
    text = without_comments(sql).lower()
    for token in re.finditer(r"\(|\)|;|[a-z_]\w*", text):
        match token.group():
            case "(":
                clauses.append(clauses[-1])
            case ")":
                clauses = clauses[:-1] or [""]
            case ";":
                clauses = [""]
            case "clock_timestamp" if clauses[-1] in TESTING:
                found.append(" ".join(text[: token.end()].split()[-6:]))
            case word if word in CLAUSES:
                clauses[-1] = word
    return found


def test_imports_point_down() -> None:
    # As a process: in this one it would disable every logger that exists, and later tests read logs.
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "pyproject.toml", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_fits_in_the_head_or_says_why_not(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")

    assert lines <= LONGEST or EXCUSE in text.split('"""')[1], f"{lines} lines; split it, or say '{EXCUSE} …' on top"


@pytest.mark.parametrize("path", sorted((ROOT / "bin").iterdir()), ids=relative)
def test_a_script_of_bin_fits_a_glance(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 30


@pytest.mark.parametrize("path", SQL, ids=relative)
def test_no_condition_calls_clock_timestamp(path: Path) -> None:
    """It is volatile, so no index can serve it: 1,005 ms over 3 million scheduled rows against 0.06 with now()."""
    assert clock_conditions(path.read_text()) == []


@pytest.mark.parametrize(
    ("sql", "is_bad"),
    [
        ("select id from jobs where run_at <= clock_timestamp()", True),
        ("select id from jobs where (a or (run_at <= clock_timestamp()))", True),
        ("select id from a join b on b.at < clock_timestamp()", True),
        ("update jobs set x = 1 where at < now() returning (clock_timestamp())", False),
        ("select id from jobs where run_at <= (select clock_timestamp())", False),
        ("select id from jobs where run_at <= now() -- not clock_timestamp()", False),
        ("update jobs set started_at = clock_timestamp() where id = 1", False),
        ("select 1 where true; if clock_timestamp() > x then", False),
    ],
)
def test_the_clock_lint_tells_a_condition_from_a_value(sql: str, is_bad: bool) -> None:
    assert bool(clock_conditions(sql)) is is_bad


def test_every_query_file_has_a_caller_and_every_caller_a_file() -> None:
    files = {path.stem for path in (ROOT / "sql" / "queries").glob("*.sql")}
    called = {name for path in MODULES for name in re.findall(r'\bquery\("(\w+)"\)', path.read_text())}

    assert files == called


@pytest.mark.parametrize("path", sorted((ROOT / "sql" / "functions").glob("*.sql")), ids=relative)
def test_a_function_file_makes_the_function_that_it_is_named_after(path: Path) -> None:
    made = re.findall(r"create or replace function jobrunner\.(\w+)", without_comments(path.read_text()))

    assert set(made) == {path.stem}


def test_every_dependency_says_why_it_is_here() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(each for group in extras.values() for each in group)]
    named = {re.split(r"[\[<>=~!; ]", each)[0] for each in wanted}
    explained = set(
        re.findall(r"^- \*\*([\w-]+)\*\*: \w", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    )

    assert explained == named


def test_every_dependency_has_an_exact_version_in_constraints() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    pinned = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(each for group in extras.values() for each in group)]

    assert all("==" in pin for pin in pins)
    assert {re.split(r"[\[<>=~!; ]", each)[0] for each in wanted} <= pinned


def test_no_file_names_a_package_registry_or_the_place_where_it_was_written() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    hosts = [
        ".".join(host) for host in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("yarnpkg", "com"))
    ]
    unwanted = [str(ROOT), *hosts, "--index" + "-url", "--find" + "-links"]

    texts = {name: (ROOT / name).read_text(errors="replace") for name in names if (ROOT / name).is_file()}
    assert [(name, word) for name, text in texts.items() for word in unwanted if word in text] == []
