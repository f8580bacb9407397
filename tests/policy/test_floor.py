"""The floor never passes what can still appear, but for writers that it remembers, and then it comes back for them.

The model is PostgreSQL's: a writer begins, draws its transaction id, then its stamps, and commits, each in a step of its
own and in any order with the others'; a tick takes its snapshot and then reads the last stamp. A row is at or above every
floor when it appears, or the floor is lowered to below it by the tick that sees its writer gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobrunner.policy.floor import Floors, Horizon, Mark, Snapshot

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Writer:
    xid: int | None = None
    stamps: list[int] = field(default_factory=list)


class Server:
    """Transaction ids, stamps and snapshots as a database gives them."""

    def __init__(self) -> None:
        self.next_xid, self.last_stamp, self.clock = 100, 0, 0.0
        self.writers: list[Writer] = []
        self.visible: set[int] = set()

    def draw(self, writer: Writer, *, xid_first: bool = True) -> None:
        if writer.xid is None and xid_first:
            self.take_xid(writer)
        self.last_stamp += 1
        writer.stamps.append(self.last_stamp)

    def take_xid(self, writer: Writer) -> None:
        writer.xid = self.next_xid
        self.next_xid += 1

    def end(self, writer: Writer, *, commit: bool) -> None:
        self.writers.remove(writer)
        if writer.xid is None:
            self.take_xid(writer)
        if commit:
            self.visible |= set(writer.stamps)

    def snapshot(self) -> Snapshot:
        running = frozenset(writer.xid for writer in self.writers if writer.xid is not None)
        return Snapshot(min(running, default=self.next_xid), self.next_xid, running)

    def mark(self) -> Mark:
        return Mark(self.last_stamp, EPOCH + timedelta(seconds=self.clock))


class Claimer:
    """The floor of one class, as the claimer moves it: up to the horizon after each empty look, down when told."""

    def __init__(self, server: Server) -> None:
        self.server, self.horizon, self.floors = server, Horizon(), Floors()
        self.floors.add([("q", 0)])
        self.claimed: set[int] = set()

    @property
    def floor(self) -> int:
        return self.floors.ready["q", 0]

    def observe(self, snapshot: Snapshot, mark: Mark) -> None:
        lower = self.horizon.observe(snapshot, mark, self.server.clock)
        if lower is not None:
            self.floors.lower(lower)

    def claim(self, horizon: Mark) -> None:
        found = {stamp for stamp in self.server.visible - self.claimed if stamp > self.floor}
        self.claimed |= found
        self.floors.claimed([("q", 0)], {("q", 0): max(found)} if found else {}, False, horizon)


WORDS = ["begin", "draw", "draw", "commit", "rollback", "snapshot", "stamp", "stamp", "claim", "wait"]
STEPS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 7)), max_size=80)


def play(steps: list[tuple[str, int]], *, xid_first: bool = True, one_sample: bool = False) -> None:
    """Runs *steps*, ends every writer, looks twice more, and checks that nothing visible was left unclaimed."""
    server = Server()
    claimer = Claimer(server)

    def tick(snapshot: Snapshot) -> None:
        if one_sample:  # the mutant: S of this tick with X of this tick
            claimer.horizon._previous = server.mark()
        claimer.observe(snapshot, server.mark())

    taken: Snapshot | None = None
    for step, n in steps:
        writer = server.writers[n % len(server.writers)] if server.writers else None
        match step:
            case "begin":
                server.writers.append(Writer())
            case "draw" if writer:
                server.draw(writer, xid_first=xid_first)
                if not xid_first and n % 2 and writer.xid is None:
                    server.take_xid(writer)
            case "commit" | "rollback" if writer:
                server.end(writer, commit=step == "commit")
            case "snapshot":
                taken = server.snapshot()
            case "stamp":
                tick(taken or server.snapshot())
                taken = None
            case "claim":
                claimer.claim(claimer.horizon.mark)
            case "wait":
                server.clock += n / 4
            case _:
                pass
    for writer in list(server.writers):
        server.end(writer, commit=True)
    for _ in range(2):
        tick(server.snapshot())
        claimer.claim(claimer.horizon.mark)
    assert server.visible == claimer.claimed, "a job would wait for the safety net, or for ever"


@settings(max_examples=600, deadline=None)
@given(STEPS)
def test_every_row_that_appears_is_found_whatever_the_order_of_commits(steps: list[tuple[str, int]]) -> None:
    play(steps)


@pytest.mark.parametrize("mutant", [{"xid_first": False}, {"one_sample": True}], ids=lambda each: next(iter(each)))
def test_the_model_catches_a_horizon_that_is_built_wrongly(mutant: dict[str, bool]) -> None:
    @settings(max_examples=2000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(STEPS)
    def mutated(steps: list[tuple[str, int]]) -> None:
        play(steps, **mutant)

    with pytest.raises(AssertionError, match="safety net"):
        mutated()


def test_the_mark_of_a_tick_is_passed_when_all_that_had_begun_by_the_next_have_ended() -> None:
    horizon = Horizon()

    assert horizon.observe(Snapshot(10, 12, frozenset({10})), Mark(5), 0.0) is None
    assert horizon.mark == Mark(0)
    horizon.observe(Snapshot(10, 13, frozenset({10})), Mark(6), 0.1)
    assert horizon.mark == Mark(0), "10 is open, and had begun before the second tick"
    horizon.observe(Snapshot(13, 13, frozenset()), Mark(7), 0.2)
    assert horizon.mark == Mark(6)


def test_a_transaction_that_stays_open_is_passed_after_a_second_and_come_back_for() -> None:
    horizon = Horizon()
    held = frozenset({10})
    horizon.observe(Snapshot(10, 11, held), Mark(5), 0.0)
    horizon.observe(Snapshot(10, 20, held), Mark(50), 0.9)
    assert horizon.mark == Mark(0)

    assert horizon.observe(Snapshot(10, 30, held), Mark(90), 1.1) is None
    assert horizon.mark == Mark(50)

    assert horizon.observe(Snapshot(31, 31, frozenset()), Mark(91), 1.2) == Mark(0)
    assert horizon.observe(Snapshot(32, 32, frozenset()), Mark(92), 1.3) is None


def test_a_snapshot_is_read_as_postgres_writes_it() -> None:
    assert Snapshot.parse("10:20:10,14,15") == Snapshot(10, 20, frozenset({10, 14, 15}))
    assert Snapshot.parse("10:10:") == Snapshot(10, 10, frozenset())


A, B, C = ("a", 5), ("a", 0), ("b", 0)


def test_a_full_claim_raises_only_what_it_has_looked_at() -> None:
    floors = Floors()
    floors.add([A, B, C])

    floors.claimed([A, B, C], {A: 7, B: 9}, True, Mark(20))

    assert floors.ready == {A: 20, B: 9, C: 0}


def test_a_claim_that_was_not_full_has_looked_at_everything() -> None:
    floors = Floors()
    floors.add([A, B])

    floors.claimed([A, B], {A: 30}, False, Mark(20))

    assert floors.ready == {A: 20, B: 20}


def test_a_floor_falls_only_when_it_is_lowered() -> None:
    floors = Floors(arrived=30, due=EPOCH + timedelta(hours=1))
    floors.ready = {A: 40, B: 3}

    floors.claimed([A, B], {}, False, Mark(20))
    assert floors.ready == {A: 40, B: 20}

    floors.lower(Mark(10, EPOCH + timedelta(minutes=1)))
    assert (floors.ready, floors.arrived, floors.due) == ({A: 10, B: 10}, 10, EPOCH + timedelta(minutes=1))

    floors.add([A, C])
    assert floors.ready == {A: 10, B: 10, C: 0}
