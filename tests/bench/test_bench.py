"""The harness, on numbers so small that they say nothing about speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import (
    enqueue,
    events,
    handlers,
    latency,
    memory,
    procrastinate,
    rounds,
    sampling,
    starts,
    wal,
)
from tests.bench.__main__ import BENCHMARKS, main
from tests.bench.contenders import ENQUEUERS
from tests.bench.drain import BUDGETS
from tests.bench.eventmeasures import HOLDERS
from tests.bench.rounds import Contender, Row, Unavailable, take_turns
from tests.bench.server import Database, Server

ROOT = Path(__file__).resolve().parents[2]


def test_list_names_every_benchmark_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)
    assert {"drain", "pinned", "enqueue", "latency", "handlers", "memory", "wal", "events", "profile"} <= set(
        BENCHMARKS
    )


def test_an_unknown_name_is_a_usage_error_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drains"]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "bin/bench: there is no benchmark 'drains'; `bin/bench list` names them.\n"


@pytest.mark.parametrize("wrong", [["--jobs", "0"], ["--only", "jobrunner,nobody"], ["--job", "5"]])
def test_a_wrong_option_is_a_usage_error(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["drain", *wrong])

    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_drain_prints_one_json_object_with_the_row_of_each_contender(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drain", "--json", "--jobs", "300", "--runs", "1", "--only", "jobrunner,bare_sql"]) == 0

    rows: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(rows) == ["jobrunner", "bare_sql"]
    for row in rows.values():
        assert set(row) == {"per_second", "spread", "version", "how"}
        least, most = row["spread"]
        assert 0 < least <= row["per_second"] <= most


def test_a_procrastinate_app_is_measured_in_four_ways(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WARM_UP_JOBS", 1)

    assert main(["procrastinate", "--json", "--jobs", "200", "--runs", "1"]) == 0

    rows: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(rows) == ["own_tables", "jobrunner_tables", "jobrunner_runner", "jobrunner_tasks"]
    assert all(row["per_second"] > 0 for row in rows.values())
    assert set(procrastinate.BUDGETS) < set(rows)


def test_events_print_one_json_object_with_a_row_for_each_number_of_subscriptions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HANDLED", (1,))
    monkeypatch.delitem(HOLDERS, "undisturbed")
    small = ["--events", "1200", "--runs", "1", "--handled", "50", "--waits", "4", "--before", "1"]

    assert main(["events", "--json", *small]) == 0

    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(data)[:5] == ["0", "1", "3", "10", "ordered"]
    assert set(data["raw_sql"]) == {"0", "1", "3", "10"}
    assert set(data["ordered"]) == {"1", "3", "10"}
    assert set(data["disturbed"]) == {"pinned snapshot", "open write transaction"}
    rows = [*(data[k] for k in data["raw_sql"]), *data["raw_sql"].values(), *data["ordered"].values()]
    for row in [*rows, *data["end_to_end"].values(), *data["disturbed"].values()]:
        assert 0 < row["spread"][0] <= row["events_per_second"] <= row["spread"][1]
    for waits in data["latency"].values():
        assert 0 < waits["p50_ms"] <= waits["p99_ms"] <= waits["max_ms"]


def test_enqueue_prints_what_one_costs_and_how_many_go_in_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "ENQUEUERS", {"jobrunner": ENQUEUERS["jobrunner"]})

    assert main(["enqueue", "--json", "--jobs", "100", "--singles", "20", "--runs", "1"]) == 0

    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert 0 < data["one"]["ratio"] == pytest.approx(data["one"]["enqueue_us"] / data["one"]["insert_us"], rel=0.01)
    assert data["bulk"]["jobrunner"]["per_second"] > 0
    assert "bulk_ratio" not in data, "there is nobody to compare with"


def test_latency_prints_the_waits_of_each_contender(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "CASES", latency.CASES[:1])
    monkeypatch.setattr(starts, "WARM_UP", 1)
    monkeypatch.setattr(starts, "REST", 0.1)

    assert main(["latency", "--json", "--jobs", "3", "--only", "jobrunner"]) == 0

    row = json.loads(capsys.readouterr().out)["jobrunner"]
    assert row["0 ms"]["jobs"] == 3
    assert 0 < row["0 ms"]["p50_ms"] <= row["0 ms"]["p99_ms"] <= row["0 ms"]["max_ms"]
    assert row["version"] == "this checkout"


def test_handlers_print_rates_beside_the_ideal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "CASES", ((10, 5),))

    assert main(["handlers", "--json", "--seconds", "0.2", "--runs", "1", "--only", "jobrunner"]) == 0

    case = json.loads(capsys.readouterr().out)["10 ms, 5 slots"]
    assert (case["ideal_per_second"], case["jobs"]) == (500, 100)
    assert 0 < case["jobrunner"]["per_second"] <= 500, "more jobs at once than there are slots"
    assert case["jobrunner"]["of_ideal"] == pytest.approx(case["jobrunner"]["per_second"] / 500, abs=0.002)


def test_memory_prints_megabytes_of_one_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "IDLE", 0.1)

    assert main(["memory", "--json", "--jobs", "200", "--minutes", "0.01"]) == 0

    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert 10 < data["idle_mb"] <= data["peak_mb"] < 500
    assert data["after_drain_mb"] <= data["peak_mb"]
    assert data["soak"]["jobs"] == 100 * round(data["soak"]["jobs"] / 100) > 0


def test_wal_prints_bytes_by_step_and_whole_pages_cost_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wal", "--json", "--jobs", "100"]) == 0

    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    for steps in (data[name] for name in wal.CHECKPOINTS):
        assert steps["all"] == steps["enqueue"] + steps["claim"] + steps["settle"]
        assert min(steps.values()) > 50
    assert data["a checkpoint before each step"]["claim"] > data["full_page_writes = off"]["claim"]
    assert data["runner"] > 500


def test_every_budget_is_about_a_contender() -> None:
    assert set(BUDGETS) == {"graphile-worker", "pgqueuer", "procrastinate", "bare_sql"}


def test_who_cannot_be_installed_gets_a_null_and_the_reason_and_is_not_run() -> None:
    def install() -> str:
        raise Unavailable("it could not be installed: no network")

    def run(database: Database, jobs: int) -> float:
        raise AssertionError("it ran")

    absent = Contender("absent", "in no way", install, prepare=run, measure=run)  # type: ignore[arg-type]

    (row,) = take_turns(Server("", "18"), [absent], jobs=10, runs=2)

    assert row.data() == {
        "per_second": None,
        "spread": None,
        "version": None,
        "how": "in no way",
        "why": "it could not be installed: no network",
    }


def test_a_row_has_the_median_and_the_extremes_of_its_runs() -> None:
    row = Row(Contender("it", "how", str, lambda *_: None, lambda *_: 1.0), version="1", rates=[30.0, 10.0, 11.0])

    assert row.data() == {"per_second": 11, "spread": [10, 30], "version": "1", "how": "how"}


def test_samples_are_shared_out_to_parts_that_exist() -> None:
    """A part whose file was renamed would silently get no samples."""
    for path, function in sampling.PARTS:
        if path.endswith(".py"):
            (file,) = [file for file in ROOT.glob("*/*/*.py") if str(file).endswith(path)]
            assert f"def {function}" in file.read_text(), f"{path} has no {function}"
