"""The floor never passes what can still appear, but for writers that it remembers, and then it comes back for them.

The model is PostgreSQL's: a writer begins, draws its transaction id, then its stamps, and commits, each in a step of its
own and in any order with the others'; a tick takes its snapshot and an id of its own, and then reads the last stamp. The xmax of
a snapshot is one past the last id that has ended, and ids above it may be in progress. A row is at or above every
floor when it appears, or the floor is lowered to below it by the tick that sees its writer gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobrunner.policy.floor import NOBODY, Floors, Horizon, Mark, Passed, Snapshot

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Writer:
    xid: int | None = None
    stamps: list[int] = field(default_factory=list)


class Server:
    """Transaction ids, stamps and snapshots as a database gives them."""

    def __init__(self) -> None:
        self.next_xid, self.last_stamp, self.clock = 100, 0, 0.0
        self.ended = 99
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
        assert writer.xid is not None
        self.ended = max(self.ended, writer.xid)
        if commit:
            self.visible |= set(writer.stamps)

    def snapshot(self) -> Snapshot:
        xmax = self.ended + 1
        running = frozenset(writer.xid for writer in self.writers if writer.xid is not None and writer.xid < xmax)
        return Snapshot(min(running, default=xmax), xmax, running)

    def begin_tick(self) -> tuple[Snapshot, int]:
        """A snapshot, and the id that the tick draws for itself."""
        snapshot, drawn = self.snapshot(), self.next_xid
        self.next_xid += 1
        return snapshot, drawn

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

    def observe(self, snapshot: Snapshot, drawn: int, mark: Mark) -> None:
        lower = self.horizon.observe(snapshot, drawn, mark, self.server.clock)
        self.server.ended = max(self.server.ended, drawn)  # its transaction is over
        if lower is not None:
            self.floors.lower(lower)

    def claim(self, horizon: Mark) -> None:
        found = {stamp for stamp in self.server.visible - self.claimed if stamp > self.floor}
        self.claimed |= found
        self.floors.claimed([("q", 0)], {("q", 0): max(found)} if found else {}, False, horizon)


WORDS = ["begin", "draw", "draw", "commit", "rollback", "snapshot", "stamp", "stamp", "claim", "wait"]
STEPS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 7)), max_size=80)


def play(
    steps: list[tuple[str, int]], *, xid_first: bool = True, one_sample: bool = False, by_xmax: bool = False
) -> None:
    """Runs *steps*, ends every writer, looks twice more, and checks that nothing visible was left unclaimed."""
    server = Server()
    claimer = Claimer(server)

    def tick(snapshot: Snapshot, drawn: int) -> None:
        if one_sample:  # the mutant: S of this tick with X of this tick
            claimer.horizon._previous = server.mark()
        claimer.observe(snapshot, snapshot.xmax if by_xmax else drawn, server.mark())

    taken: tuple[Snapshot, int] | None = None
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
                taken = server.begin_tick()
            case "stamp":
                tick(*(taken or server.begin_tick()))
                taken = None
            case "claim":
                claimer.claim(claimer.horizon.mark)
            case "wait":
                server.clock += n / 4
            case _:
                pass
    for writer in list(server.writers):
        server.end(writer, commit=True)
    for _ in range(3):
        tick(*server.begin_tick())
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


def test_the_xmax_of_the_next_snapshot_would_not_do() -> None:
    """It is one past the last id that has ended: a writer that began after that and has drawn a stamp lies above it."""
    words = ["snapshot", "begin", "draw", "stamp", "stamp", "claim", "commit"]
    steps = [(word, 0) for word in words]

    play(steps)
    with pytest.raises(AssertionError, match="safety net"):
        play(steps, by_xmax=True)


def test_the_mark_of_a_tick_is_passed_when_all_that_had_begun_by_the_next_have_ended() -> None:
    horizon = Horizon()

    assert horizon.observe(Snapshot(10, 12, frozenset({10})), 12, Mark(5), 0.0) is None
    assert horizon.mark == Mark(0)
    horizon.observe(Snapshot(10, 13, frozenset({10})), 14, Mark(6), 0.1)
    assert horizon.mark == Mark(0), "10 is open, and had begun before the second tick"
    horizon.observe(Snapshot(15, 15, frozenset()), 15, Mark(7), 0.2)
    assert horizon.mark == Mark(6)


def test_an_id_above_the_xmax_of_a_snapshot_may_be_in_progress() -> None:
    """13 has drawn the stamp 5; as long as nothing later has ended, no snapshot lists it."""
    horizon = Horizon()
    horizon.observe(Snapshot(12, 12, frozenset()), 12, Mark(5), 0.0)
    horizon.observe(Snapshot(13, 13, frozenset()), 14, Mark(5), 0.1)
    assert horizon.mark == Mark(0), "the tick drew 14: 13 is in progress"
    horizon.observe(Snapshot(13, 15, frozenset({13})), 15, Mark(5), 0.2)
    assert horizon.mark == Mark(0)
    horizon.observe(Snapshot(16, 16, frozenset()), 16, Mark(5), 0.3)
    assert horizon.mark == Mark(5)


def test_a_transaction_that_stays_open_is_passed_after_a_second_and_come_back_for() -> None:
    horizon = Horizon()
    held = frozenset({10})
    horizon.observe(Snapshot(10, 11, held), 11, Mark(5), 0.0)
    horizon.observe(Snapshot(10, 20, held), 20, Mark(50), 0.9)
    assert horizon.mark == Mark(0)
    assert horizon.passed == NOBODY

    assert horizon.observe(Snapshot(10, 31, held), 30, Mark(90), 1.1) is None
    assert horizon.mark == Mark(50)
    assert horizon.passed == Passed(0, [10])

    assert horizon.observe(Snapshot(31, 31, frozenset()), 31, Mark(91), 1.2) == Mark(0)
    assert horizon.passed == NOBODY
    assert horizon.observe(Snapshot(32, 32, frozenset()), 32, Mark(92), 1.3) is None


@pytest.mark.parametrize(("drawn", "mark"), [(15, Mark(50)), (20, Mark(4))])
def test_a_server_that_stands_further_back_is_another_one(drawn: int, mark: Mark) -> None:
    horizon = Horizon()
    horizon.observe(Snapshot(10, 10, frozenset()), 10, Mark(5), 0.0)
    horizon.observe(Snapshot(20, 20, frozenset()), 20, Mark(9), 0.1)
    assert horizon.mark == Mark(5)

    assert horizon.observe(Snapshot(drawn, drawn, frozenset()), drawn, mark, 0.2) == Mark()
    assert horizon.mark == Mark()
    assert horizon.observe(Snapshot(30, 30, frozenset()), 30, Mark(60), 0.3) is None
    assert horizon.mark == mark


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
