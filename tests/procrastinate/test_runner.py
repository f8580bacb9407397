"""What the front end promises of a worker, again with jobrunner's own runner in its place: these are the same tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.procrastinate import test_ending, test_ours, test_working
from tests.procrastinate.rig import RunnerRig

for each in (
    test_ending.test_a_decision_moves_the_job,
    test_ending.test_a_failing_task_is_tried_again_as_often_as_it_says,
    test_ending.test_a_strategy_says_how_long_to_wait,
    test_ending.test_a_sync_task_asks_whether_to_stop,
    test_ending.test_an_async_task_is_cancelled_by_an_abort,
    test_ending.test_the_builtin_task_removes_old_jobs,
    test_ours.test_a_task_that_the_app_does_not_know_waits,
    test_ours.test_jobs_of_other_apps_in_the_same_queue_are_left_alone,
    test_ours.test_what_a_handler_defers_is_caused_by_its_job,
    test_working.test_a_job_reaches_an_idle_worker_without_polling,
    test_working.test_a_job_sees_itself,
    test_working.test_a_periodic_task_is_deferred_once_a_tick,
    test_working.test_a_worker_finishes_what_it_runs_before_it_stops,
    test_working.test_a_worker_runs_as_many_at_a_time_as_it_may,
    test_working.test_a_worker_takes_its_queues_only,
    test_working.test_blueprints_have_namespaces,
    test_working.test_middleware_wraps_tasks_and_jobs,
    test_working.test_sync_tasks_run_and_defer_from_their_threads,
):
    globals()[each.__name__] = each


@pytest.fixture
def kind() -> str:
    return "ours"


@pytest.fixture
def make_rig() -> Callable[..., RunnerRig]:
    return RunnerRig
