"""The metrics of one runner, for Prometheus: counts what its telemetry tells, and says it when it is scraped.

Counted in plain dictionaries, because a counter of the library takes a lock for every job. Labels are bounded: queues, tasks and
outcomes, never an id, a key or a runner; what is over the bound is counted as `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobrunner.version import VERSION
from jobrunner.worker.runner import Runner

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: from a job that does next to nothing to one that takes half an hour."""

SERIES = 200
"""Pairs of queue and task that are told apart; so many queues and subscriptions in the other metrics."""

OTHER = "other"

_SIZES = (0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0)  # jobs of a claim


class Tally:
    """The values of one histogram."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Take one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def into(self, family: HistogramMetricFamily, *labels: str) -> None:
        """Say it."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self.counts), strict=True)), self.sum)


class Series:
    """What is counted for one queue, task and outcome; the waits are those of all its outcomes."""

    __slots__ = ("runs", "unstarted", "waits")

    def __init__(self, waits: Tally) -> None:
        self.waits, self.runs, self.unstarted = waits, Tally(), 0


class RunnerMetrics(Collector):
    """What a scrape of *runner* finds. Made before it starts; from then on every run costs it about a microsecond."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._series: dict[tuple[str, str, str], Series] = {}
        self._waits: dict[tuple[str, str], Tally] = {}
        self._claims: Counter[str] = Counter()
        self._claim_seconds, self._claim_jobs = Tally(), Tally(_SIZES)
        self._wakeups: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        runner.telemetry.attach(self._observe)
        runner.telemetry.on_run = self._ended

    def _ended(self, queue: str, task: str, outcome: str, waited: float | None, ran: float | None) -> None:
        series = self._series.get((queue, task, outcome))
        if series is None:
            series = self._new_series(queue, task, outcome)
        if ran is None or waited is None:
            series.unstarted += 1
            return
        # Tally.add, written out: 50,000 times a second a call is much.
        waits, runs = series.waits, series.runs
        waits.counts[bisect_left(BUCKETS, waited)] += 1
        waits.sum += waited
        runs.counts[bisect_left(BUCKETS, ran)] += 1
        runs.sum += ran

    def _new_series(self, queue: str, task: str, outcome: str) -> Series:
        pair = queue, task
        if pair not in self._waits and len(self._waits) >= SERIES:
            pair = OTHER, OTHER  # and it is looked for again each time, but what is kept stays bounded
        found = self._series.get((*pair, outcome))
        if found is None:
            found = self._series[(*pair, outcome)] = Series(self._waits.setdefault(pair, Tally()))
        return found

    def _observe(self, event: str, n: int, facts: dict[str, Any]) -> None:
        match event:
            case "claim.made":
                self._claims["hit" if n else "empty"] += 1
                self._claim_seconds.add(facts["seconds"])
                self._claim_jobs.add(n)
            case "claimer.woken":
                self._wakeups[facts["reason"]] += 1
            case "loop.failed":
                self._failures[facts["loop"]] += 1
                if facts["loop"] == "claim":
                    self._claims["error"] += 1

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect in order to know the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families, now."""
        yield from self._of_jobs()
        yield from self._of_claims()
        vitals, counts = self._runner.vitals(), self._runner.telemetry.counts
        running = GaugeMetricFamily("jobrunner_jobs_in_flight", "Jobs that run now.", labels=["queue"])
        for queue, many in bounded(dict(vitals.running)).items():
            running.add_metric([queue], many)
        yield running
        yield GaugeMetricFamily("jobrunner_runner_slots", "Room for running jobs.", value=vitals.slots)
        yield GaugeMetricFamily("jobrunner_listener_connected", "1: notifications arrive.", value=vitals.listening)
        again = max(0, counts["listener.up"] - 1)
        yield CounterMetricFamily("jobrunner_listener_reconnects", "Times that notifications came back.", value=again)
        ages = GaugeMetricFamily(
            "jobrunner_loop_heartbeat_age_seconds", "Seconds since a loop's last sign of life.", labels=["loop"]
        )
        for check in vitals.live:
            ages.add_metric([check.name], check.age or 0.0)
        yield ages
        for name, event, about in _COUNTED:
            yield CounterMetricFamily(f"jobrunner_{name}", about, value=counts[event])
        yield build_info()

    def _of_jobs(self) -> Iterator[Metric]:
        three = ["queue", "task", "outcome"]
        finished = CounterMetricFamily("jobrunner_jobs_finished", "Runs that ended, by outcome.", labels=three)
        for labels, series in self._series.items():
            finished.add_metric(labels, sum(series.runs.counts) + series.unstarted)
        yield finished
        waited = HistogramMetricFamily(
            "jobrunner_job_wait_seconds", "From when a job was due to its claim.", labels=["queue", "task"]
        )
        for pair, tally in self._waits.items():
            tally.into(waited, *pair)
        yield waited
        took = HistogramMetricFamily("jobrunner_job_duration_seconds", "From start to outcome.", labels=three)
        for labels, series in self._series.items():
            series.runs.into(took, *labels)
        yield took

    def _of_claims(self) -> Iterator[Metric]:
        claims = CounterMetricFamily("jobrunner_claims", "Claims by what they brought.", labels=["result"])
        for result in ("hit", "empty", "error"):
            claims.add_metric([result], self._claims[result])
        yield claims
        seconds = HistogramMetricFamily("jobrunner_claim_duration_seconds", "What one claim took.", labels=[])
        self._claim_seconds.into(seconds)
        yield seconds
        jobs = HistogramMetricFamily("jobrunner_claim_batch_jobs", "Jobs that one claim brought.", labels=[])
        self._claim_jobs.into(jobs)
        yield jobs
        wakeups = CounterMetricFamily("jobrunner_wakeups", "What ended the claimer's sleep.", labels=["reason"])
        for reason in ("notify", "poll", "timer", "local"):
            wakeups.add_metric([reason], self._wakeups[reason])
        yield wakeups
        failures = CounterMetricFamily(
            "jobrunner_loop_failures", "Steps that failed and are tried again.", labels=["loop"]
        )
        for loop, many in self._failures.items():
            failures.add_metric([loop], many)
        yield failures


_COUNTED = (
    ("rescued", "jobs.rescued", "Jobs of lost runners that this one gave back."),
    ("settlements_refused", "jobs.stale", "Settlements that came too late: another attempt has the job."),
    ("events_sequenced", "events.sequenced", "Events that this runner moved into the log."),
    ("deliveries_created", "events.delivered", "Deliveries that it made of them."),
)


def build_info() -> Metric:
    """The version, as a label of the constant 1."""
    family = GaugeMetricFamily("jobrunner_build_info", "1, with the version.", labels=["version"])
    family.add_metric([VERSION], 1)
    return family


def bounded(values: dict[str, int]) -> dict[str, int]:
    """*values* by label, the largest; what is beyond the bound is added up as `other`."""
    if len(values) <= SERIES:
        return values
    kept = dict(Counter(values).most_common(SERIES))
    return {**kept, OTHER: sum(values.values()) - sum(kept.values())}
