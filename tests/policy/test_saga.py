"""What a handler of a saga decides is a value, and which handler an event goes to is a table: no database, no runner."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from jobrunner import Event, Job, Saga
from jobrunner.errors import BadDuration, ConfigError, InvalidArguments, UnstorableText
from jobrunner.policy.saga import Effects, Handlers, Part, Published, Status, dump, load


class State(BaseModel):
    order_id: UUID
    tries: int = 0
    labels: dict[str, str] = Field(default_factory=dict, alias="tags")


class Asked(Event, name="asked", key="n"):
    n: int


def saga() -> Saga[State]:
    return Saga(State(order_id=UUID(int=1), tags={}), "o1", name="shop.payment")


def test_what_a_handler_says_is_collected_in_order() -> None:
    it = saga()
    it.enqueue(Job("shop.a"))
    it.enqueue(Job("shop.b"), delay="5m", key="k")
    it.publish(Asked(n=1))
    it.publish(Asked(n=2), key="k", subject="s")
    it.compensate_with(Job("shop.undo_a"))
    it.compensate_with(Job("shop.undo_b"))

    assert it.jobs == [Job("shop.a"), Job("shop.b", delay=timedelta(minutes=5), key="k")]
    assert it.events == [Published(Asked(n=1)), Published(Asked(n=2), "k", "s")]
    assert it.compensations == [Job("shop.undo_a"), Job("shop.undo_b")]
    assert (it.status, it.reason, it.sets_timeout) == (Status.RUNNING, None, False)


def test_a_command_with_its_undo_stands_in_the_line_of_what_undoes() -> None:
    it = saga()
    it.enqueue(Job("shop.a"), undo=Job("shop.undo"), priority=3)

    assert it.jobs == [Job("shop.a", key="saga shop.payment o1", priority=3)]
    assert it.compensations == [Job("shop.undo")]


@pytest.mark.parametrize("options", [{"key": "k"}, {"unique_key": "k"}, {"delay": "1s"}])
def test_what_undoes_runs_in_the_order_of_the_saga_only(options: Any) -> None:
    with pytest.raises(ConfigError, match=r"shop\.a has a key, a unique key or a time of its own"):
        saga().compensate_with(Job("shop.a").using(**options))
    with pytest.raises(ConfigError, match="of its own"):
        saga().enqueue(Job("shop.a"), undo=Job("shop.undo"), **options)
    with pytest.raises(ConfigError, match="of its own"):
        saga().enqueue(Job("shop.a"), undo=Job("shop.undo").using(**options))


def test_the_last_timeout_counts_and_none_clears_it() -> None:
    it = saga()
    it.timeout("15m")
    it.timeout("1h")
    assert (it.sets_timeout, it.timeout_in) == (True, timedelta(hours=1))

    it.timeout(None)
    assert (it.sets_timeout, it.timeout_in) == (True, None)

    with pytest.raises(BadDuration):
        it.timeout("soon")


def test_a_step_ends_a_saga_in_one_way() -> None:
    it = saga()
    it.compensate("refused\0" + "x" * 1000)
    it.compensate("refused")
    assert (it.status, it.reason) == (Status.COMPENSATING, "refused")
    with pytest.raises(ConfigError, match="cannot be completed and compensating in one step"):
        it.complete()

    it = saga()
    it.complete()
    it.complete()
    assert it.status is Status.COMPLETED
    with pytest.raises(ConfigError, match="cannot be compensating and completed"):
        it.compensate("no")


def test_the_reason_is_text_that_a_database_can_store() -> None:
    it = saga()
    it.compensate("\0é" * 1000)

    assert it.reason is not None
    assert "\0" not in it.reason
    assert len(it.reason.encode()) <= 512


@pytest.mark.parametrize(
    ("event", "status", "part", "part_with_stray"),
    [
        ("first", None, Part.START, Part.START),
        ("both", None, Part.START, Part.START),
        ("next", None, Part.NOTHING, Part.STRAY),
        ("first", Status.RUNNING, Part.NOTHING, Part.NOTHING),
        ("both", Status.RUNNING, Part.STEP, Part.STEP),
        ("next", Status.RUNNING, Part.STEP, Part.STEP),
        *(
            (event, over, Part.NOTHING, Part.STRAY)
            for event in ("first", "both", "next")
            for over in Status
            if over != "running"
        ),
    ],
)
def test_an_event_goes_to_one_handler(event: str, status: Status | None, part: Part, part_with_stray: Part) -> None:
    def step(saga: Saga[State], event: Any) -> None: ...

    def stray(effects: Effects, event: Any) -> None: ...

    handlers = Handlers(starts={"first": step, "both": step}, on={"both": step, "next": step})
    assert handlers.part(event, status) is part

    handlers.not_found = stray
    assert handlers.part(event, status) is part_with_stray


def test_a_state_comes_back_as_it_was_with_aliases() -> None:
    before = State(order_id=UUID(int=7), tries=3, tags={"a": "ü"})

    assert load(State, dump(State, before, "s"), "s") == before


def test_a_start_may_leave_required_fields_to_its_handler_but_not_forget_them() -> None:
    state = State.model_construct()
    with pytest.raises(InvalidArguments, match=r"s: the state does not fit State; order_id: Field required"):
        dump(State, state, "s")

    state.order_id = UUID(int=1)
    assert load(State, dump(State, state, "s"), "s").tries == 0


def test_a_state_that_does_not_fit_is_refused_before_it_is_stored_and_without_its_values() -> None:
    state = State(order_id=UUID(int=1), tags={})
    state.tries = "secret"  # type: ignore[assignment]
    with pytest.raises(InvalidArguments, match="tries: Input should be a valid integer") as refused:
        dump(State, state, "s")
    assert "secret" not in str(refused.value)

    with pytest.raises(UnstorableText, match=r"state\.tags\.a"):
        dump(State, State(order_id=UUID(int=1), tags={"a": "\0"}), "s")


def test_a_stored_state_of_other_code_is_told_apart() -> None:
    with pytest.raises(InvalidArguments, match="order_id: Field required"):
        load(State, "{}", "s")
