"""Patterns of event types match as AMQP's topics do; what is no pattern is refused before it could stop the log."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store import log
from tests.store.calls import Connection, value
from tests.store.log import publish, sequence, states, subscribe

pytestmark = pytest.mark.pg16

WORDS = st.sampled_from(["a", "b", "A", "jobrunner", "job-1", "x_y", "0", "jobrunnerx"])
TYPES = st.lists(WORDS, min_size=1, max_size=5)
PATTERNS = st.lists(st.one_of(st.just("#"), st.just("*"), WORDS), min_size=1, max_size=5)

MATCHES = "select '.' || %s::text ~ jobrunner.topic_pattern(%s)"


def wanted(pattern: list[str], words: list[str]) -> bool:
    """AMQP's rule as it is said, word by word; and jobrunner's own are for those who name them."""
    if words[0] == "jobrunner" and pattern[0] != "jobrunner":
        return False

    def rest(p: int, w: int) -> bool:
        if p == len(pattern):
            return w == len(words)
        if pattern[p] == "#":
            return any(rest(p + 1, further) for further in range(w, len(words) + 1))
        return w < len(words) and pattern[p] in ("*", words[w]) and rest(p + 1, w + 1)

    return rest(0, 0)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(pairs=st.lists(st.tuples(PATTERNS, TYPES), min_size=20, max_size=20))
def test_a_pattern_matches_what_a_matcher_of_words_says(
    tx: Connection, pairs: list[tuple[list[str], list[str]]]
) -> None:
    found = tx.execute(
        """select '.' || p.type ~ jobrunner.topic_pattern(array[p.pattern])
           from unnest(%s::text[], %s::text[]) with ordinality p (pattern, type, n) order by n""",
        [[".".join(pattern) for pattern, _ in pairs], [".".join(words) for _, words in pairs]],
    ).fetchall()

    assert [row[0] for row in found] == [wanted(pattern, words) for pattern, words in pairs]


@settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(patterns=st.lists(PATTERNS, min_size=1, max_size=4), words=TYPES)
def test_several_patterns_match_what_one_of_them_does(
    tx: Connection, patterns: list[list[str]], words: list[str]
) -> None:
    found = value(tx, MATCHES, ".".join(words), [".".join(pattern) for pattern in patterns])

    assert found == any(wanted(pattern, words) for pattern in patterns)


@pytest.mark.parametrize("pattern", ["#", "*", "*.*.*", "*.job.dead", "#.dead", "#.#", "*.#", "#.job.*", "order.#"])
def test_a_wildcard_never_matches_what_jobrunner_publishes_itself(tx: Connection, pattern: str) -> None:
    for name in ("jobrunner.job.dead", "jobrunner", "jobrunner.subscription.paused"):
        assert value(tx, MATCHES, name, [pattern]) is False
    assert value(tx, MATCHES, "jobrunner.job.dead", [pattern, "jobrunner.#"]) is True


BROKEN: list[Any] = [
    "order.(",
    "order.[",
    "a+",
    "",
    "a..b",
    ".a",
    "a.",
    "a*",
    "a.#b",
    "a b",
    "é",
    "a\n",
    "a" * 201,
    None,
]


@pytest.mark.parametrize("pattern", BROKEN)
def test_what_is_no_pattern_is_refused_in_a_sentence(tx: Connection, pattern: str | None) -> None:
    with pytest.raises(psycopg.Error, match="no pattern of event types") as refused:
        value(tx, MATCHES, "a", ["a", pattern])

    assert refused.value.sqlstate == "JR003"


def test_a_broken_pattern_cannot_be_registered_and_so_cannot_stop_the_log(conn: Connection) -> None:
    """One broken expression in one subscription, and no event of anybody was recorded any more."""
    subscribe(conn, "shop.good")
    for types in (["order.("], [], [None]):
        with pytest.raises(psycopg.Error) as refused:
            subscribe(conn, "shop.broken", types=types)
        assert refused.value.sqlstate == "JR003"
        with pytest.raises(psycopg.Error) as refused:
            log.apply(conn, "shop.good", types=types)
        assert refused.value.sqlstate == "JR003"
    publish(conn)

    assert sequence(conn) == (1, 1)
    assert states(conn, "shop.good") == {1: "ready"}
