"""The commands of events on a real database, in this process: what they show, what they change, and what they refuse."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from jobrunner.ops.attention import CONDITIONS
from tests.conftest import Connection
from tests.ops.shell import Shell, register
from tests.store import calls, log
from tests.store.log import publish_many, sequence, subscribe

LEDGER = "shop.ledger"

APP = """
from jobrunner import App, Context, Event

app = App("shop")

class OrderPaid(Event, name="order.paid", key="order_id"):
    order_id: int

@app.on(OrderPaid, name="shop.ledger", queue="books", ordered=True)
def ledger(ctx: Context, event: OrderPaid) -> None: ...

@app.on("user.*", start="beginning")
def users(ctx: Context, event: dict) -> None: ...
"""


@pytest.fixture
def shell(dsn: str, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(dsn, capsys)


@pytest.fixture
def dead_key(conn: Connection) -> int:
    """An ordered subscription whose key 42 is blocked by its first event, with two more behind it; the id of the dead job."""
    calls.register(conn, tasks=[LEDGER])
    subscribe(conn, LEDGER, ordered=True, on_dead="block_key", types=["order.*"])
    publish_many(conn, [{"key": "42", "subject": "order:42", "data": {"n": n}} for n in range(3)])
    sequence(conn)
    calls.settle(conn, 1, log.claim(conn, LEDGER), "dead", reason="failed", error="ValueError: no such book")
    return int(calls.value(conn, "select id from jobrunner.jobs where state = 'dead'"))


@pytest.fixture
def app_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An app that can be imported from the current directory, under a name of its own."""
    name = f"declared_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:app"


def work(conn: Connection, *names: str) -> None:
    log.walk_to_the_end(conn)
    log.run_all(conn, *names)


# ------------------------------------------------------------------------------------------------------------- publish
def test_publish_prints_the_id_of_an_event_with_all_its_options(
    shell: Shell, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(conn, LEDGER, types=["order.*"])
    made = shell(
        "publish", "order.paid", "--data", '{"order_id": 42}', "--key", "42", "--subject", "order:42", "--version", 2,
        "--header", "trace=a=b", "--header", "tenant=x", "--source", "till",
    )  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"from": "stdin"}'))
    piped = shell("publish", "user.new", "--data", "-", "--json")
    sequence(conn)

    first, second = shell("events", "list", "--payload", "--json").json[::-1]

    assert UUID(made.out.strip()) == UUID(first["event_id"])
    assert (made.code, made.err) == (0, "")
    wanted = {"type": "order.paid", "version": 2, "key": "42", "subject": "order:42", "source": "till", "position": 1}
    assert first.items() >= wanted.items()
    assert (first["data"], first["headers"]) == ({"order_id": 42}, {"trace": "a=b", "tenant": "x"})
    assert (second["data"], second["source"]) == ({"from": "stdin"}, "cli")
    assert piped.json == {"id": second["event_id"], "subscriptions": []}
    assert piped.err == "note: no subscription takes user.new so far\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["jobrunner.x"], "types that begin with jobrunner. belong to jobrunner itself"),
        (["order paid"], "event type must be words of letters"),
        (["a", "--data", "[1]"], "--data must be an object like"),
        (["a", "--data", "{"], "--data is not JSON: "),
        (["a", "--header", "x"], "--header is written name=value, got 'x'"),
        (["a", "--version", "0"], "version must be a whole number from 1 to 32767"),
        (["a", "--key", ""], "key must have 1 to 512 bytes"),
    ],
)
def test_an_event_that_cannot_be_is_refused_with_one_sentence(shell_of_all: Shell, args: list[str], said: str) -> None:
    refused = shell_of_all("publish", *args)

    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert said in refused.err
    assert refused.err.count("\n") == 1


@pytest.fixture
def shell_of_all(_shared_dsn: str, capsys: pytest.CaptureFixture[str]) -> Shell:
    """On the database of those who change nothing."""
    return Shell(_shared_dsn, capsys)


# ------------------------------------------------------------------------------------------------------------- events
def test_events_list_filters_and_pages(shell: Shell, conn: Connection) -> None:
    publish_many(
        conn,
        [{"type": f"{'order' if n % 2 else 'user'}.t{n}", "key": f"k{n}", "subject": f"s:{n}"} for n in range(1, 7)],
    )
    sequence(conn)

    def listed(*options: object) -> list[int]:
        return [event["position"] for event in shell("events", "list", "--json", *options).json]

    assert listed() == [6, 5, 4, 3, 2, 1]
    assert listed("--limit", 2, "--after", 5) == [4, 3]
    assert listed("--type", "order.*") == [5, 3, 1]
    assert listed("--type", "user.t4") == [4]
    assert listed("--key", "k3") == [3]
    assert listed("--subject", "s:2") == [2]
    assert listed("--since", "1h") == [6, 5, 4, 3, 2, 1]
    conn.execute("select jobrunner.publish('late.one', '{}')")
    page = shell("events", "list", "--limit", 1)
    assert page.err == "that is 1; for more: --after 6\nnote: 1 more in the outbox, not recorded yet\n"
    assert shell("events", "list", "--type", "order..x").code == 2


def test_a_payload_is_shown_only_when_it_is_asked_for(shell: Shell, conn: Connection) -> None:
    made = shell("publish", "order.paid", "--data", '{"card": "4711"}', "--header", "token=s3cret").out.strip()
    assert "in the outbox" in shell("events", "show", made).out
    assert shell("events", "show", made, "--json").json["position"] is None
    assert (shell("events", "show", 1).code, shell("events", "show", "zz").code) == (4, 2)
    sequence(conn)

    for args in (["list"], ["show", 1], ["types"]):
        for more in ([], ["--json"]):
            shown = shell("events", *args, *more).out
            assert "4711" not in shown
            assert "s3cret" not in shown
    assert "4711" in shell("events", "list", "--payload").out
    assert "s3cret" in shell("events", "show", 1, "--payload").out


def test_events_show_tells_what_became_of_it_everywhere(shell: Shell, conn: Connection, dead_key: int) -> None:
    subscribe(conn, "shop.late", types=["order.paid"])
    subscribe(conn, "shop.past", after=0, types=["order.paid"])
    subscribe(conn, "shop.totals", after=0, mode="stream", types=["#"], on_dead="pause")
    event = shell("events", "show", 1, "--json").json
    by_id = shell("events", "show", event["event_id"], "--json").json
    table = shell("events", "show", 1).out

    told = {one["subscription"]: (one["state"], one["reason"]) for one in event["outcomes"]}
    assert told == {
        LEDGER: ("dead", "failed"),
        "shop.late": ("none", "it was recorded before the subscription was live"),
        "shop.past": ("to_come", "walk 1 will come to it"),
        "shop.totals": ("unread", "its cursor is 1 before it"),
    }
    (ledger,) = [one for one in event["outcomes"] if one["subscription"] == LEDGER]
    assert (ledger["job_id"], ledger["attempt"], ledger["error"]) == (str(dead_key), 1, "ValueError: no such book")
    assert isinstance(ledger["waited_seconds"], float)
    assert by_id["position"] == event["position"]
    assert re.search(rf"shop.ledger +dead +{dead_key} +1 .*ValueError: no such book", table)
    assert "to come" in table
    second = {one["subscription"]: one for one in shell("events", "show", 2, "--json").json["outcomes"]}
    kinds = {one["type"]: one for one in shell("events", "types", "--json").json}
    assert kinds["order.paid"].items() >= {"n_24h": 3, "last_position": 3}.items()
    assert LEDGER in kinds["order.paid"]["subscriptions"]
    assert (second[LEDGER]["state"], second[LEDGER]["blocked_on"], second[LEDGER]["ran_seconds"]) == (
        "blocked",
        "key",
        None,
    )


# ------------------------------------------------------------------------------------------------------- subscriptions
def test_subs_show_what_is_blocked_and_resolve_frees_it(
    shell: Shell, conn: Connection, dead_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = shell("subs", "list", "--json").json[0]
    shown = shell("subs", "show", LEDGER)
    told = shell("subs", "show", LEDGER, "--json").json

    assert (
        listed.items()
        >= {"name": LEDGER, "condition": "blocked", "blocked_keys": 1, "lag_events": 2, "dead": 1}.items()
    )
    assert "1 key behind a dead delivery" in shell("subs", "list").out
    assert re.search(rf"42 +2 .* {dead_key} +1 +ValueError: no such book", shown.out)
    assert f"jobrunner subs resolve {LEDGER} 42 retry|discard" in shown.out
    assert [(key["key"], key["waiting"], key["job_id"]) for key in told["keys"]] == [("42", 2, str(dead_key))]
    assert "subscription_blocked" in [one["code"] for one in shell("status", "--json").json["attention"]]

    monkeypatch.setenv("COLUMNS", "80")
    for args in (["events", "list"], ["events", "show", 1], ["subs", "list"], ["subs", "show", LEDGER]):
        assert max(len(line.rstrip()) for line in shell(*args).out.splitlines()) <= 80, args

    freed = shell("subs", "resolve", LEDGER, "42", "retry", "--reason", "there is one now")

    assert freed.out == f"key 42: job {dead_key} is tried again\n"
    work(conn, LEDGER)
    assert shell("subs", "list", "--json").json[0].items() >= {"condition": "ok", "lag_events": 0, "dead": 0}.items()
    again = shell("subs", "resolve", LEDGER, "42", "discard")
    assert again.code == 4
    assert again.err.startswith(f"error: there is no dead delivery that blocks key '42' of {LEDGER}; ")
    assert shell("subs", "resolve", LEDGER, "42", "explode").code == 2


def test_pause_and_resume_say_whether_they_changed_anything(shell: Shell, conn: Connection) -> None:
    subscribe(conn, LEDGER)
    register(conn, LEDGER)

    assert shell("subs", "pause", LEDGER, "--reason", "stocktaking").out == f"subscription {LEDGER} paused\n"
    assert shell("subs", "pause", LEDGER, "--json").json["changed"] is False
    publish_many(conn, [{}, {}])
    sequence(conn)
    paused = shell("status", "--json").json
    assert re.search(rf"{LEDGER} +paused +2 .*by .*: stocktaking", shell("subs", "list").out)
    assert paused["subscriptions"]["paused"] == 1
    found = {one["code"]: one["message"] for one in paused["attention"]}
    assert re.fullmatch(
        rf"subscription {LEDGER} is paused by .*, 2 events wait: stocktaking", found["subscription_paused"]
    )
    assert "task_unknown" not in found  # what is put aside for a pause is not unknown
    assert shell("subs", "resume", LEDGER).out == f"subscription {LEDGER} resumed\n"
    assert shell("subs", "pause", "shop.nope").err == (
        "error: there is no subscription shop.nope; list them with: jobrunner subs list\n"
    )
    assert shell("subs", "show", "shop.nope").code == 4


def test_skip_and_discard_give_one_delivery_up(shell: Shell, conn: Connection, dead_key: int) -> None:
    assert shell("subs", "skip", LEDGER, 2, "--json").json["result"] == "cancelled"
    assert "is given up" in shell("subs", "resolve", LEDGER, 42, "discard").out
    over = shell("subs", "skip", LEDGER, 1)

    assert over.code == 4
    assert over.err.endswith("see what became of it: jobrunner events show 1\n")
    calls.sweep(conn)
    assert [log.position(one) for one in log.run_all(conn, LEDGER)] == [3]


def test_remove_needs_yes_and_takes_what_is_open_with_it(shell: Shell, conn: Connection, dead_key: int) -> None:
    refused = shell("subs", "remove", LEDGER)
    dry = shell("subs", "remove", LEDGER, "--dry-run", "--json").json
    done = shell("subs", "remove", LEDGER, "--yes")

    assert refused.code == 7
    assert refused.err.startswith(
        f"error: will not remove subscription {LEDGER} and give up 3 open deliveries without --yes"
    )
    assert dry == {"subscription": LEDGER, "dry_run": True, "deliveries": 3}
    assert done.out == f"removed subscription {LEDGER}, gave up 3 open deliveries\n"
    assert shell("subs", "list", "--json").json == []


def test_apply_makes_the_subscriptions_what_the_code_says(shell: Shell, conn: Connection, app_here: str) -> None:
    subscribe(conn, LEDGER, types=["order.*"], ordered=True, on_dead="block_key")
    subscribe(conn, "shop.old")
    diff = shell("subs", "diff", app_here)
    told = shell("subs", "diff", app_here, "--json").json
    refused = shell("subs", "apply", app_here)
    one = shell("subs", "apply", app_here, LEDGER, "--dry-run", "--json").json

    assert f"{LEDGER}  differs" in diff.out
    assert "queue: default → books" in diff.out
    assert "types: order.* → order.paid" in diff.out
    assert "shop.users  new: user.* from beginning" in diff.out
    assert "shop.old  only in the database; remove it with: jobrunner subs remove shop.old" in diff.out
    assert [(each["name"], each["status"]) for each in told["subscriptions"]] == [
        (LEDGER, "differs"),
        ("shop.users", "new"),
    ]
    assert told["subscriptions"][0]["differences"]["queue"] == {"is": "default", "wanted": "books"}
    assert (refused.code, refused.err) == (
        7,
        "error: will not apply 2 subscriptions without --yes; add it if you mean it\n",
    )
    assert (one["applied"], len(one["subscriptions"])) == (0, 1)

    done = shell("subs", "apply", app_here, "--yes", "--reason", "new queue")
    again = shell("subs", "apply", app_here, "--json").json

    assert done.out.endswith("applied 2 subscriptions\n")
    assert [each["status"] for each in again["subscriptions"]] == ["same", "same"]
    assert calls.column(conn, "select name from jobrunner.subscriptions order by name") == [
        LEDGER,
        "shop.old",
        "shop.users",
    ]
    assert calls.column(conn, "select reason from jobrunner.audit where action = 'apply'") == ["new queue"]
    assert shell("subs", "apply", app_here, "shop.nope").code == 4


def test_apply_refuses_what_cannot_be_right(shell: Shell, conn: Connection, app_here: str) -> None:
    subscribe(conn, LEDGER, mode="stream", on_dead="pause")

    refused = shell("subs", "apply", app_here, LEDGER, "--yes")

    assert refused.code == 5
    assert "error: cannot do this: shop.ledger cannot become another mode; give the new one another name" in refused.err


# ------------------------------------------------------------------------------------------------------------- replay
def test_a_replay_shows_events_again(shell: Shell, conn: Connection) -> None:
    calls.register(conn, tasks=["shop.mail"])
    subscribe(conn, "shop.mail")
    publish_many(conn, [{"type": "order.paid", "key": str(n % 2)} for n in range(6)])
    sequence(conn)
    work(conn, "shop.mail")
    dry = shell("replay", "start", "shop.mail", "--since", "1h", "--dry-run")
    started = shell(
        "replay", "start", "shop.mail", "--after", 2, "--upto", 5, "--type", "order.*", "--key", "0", "--json"
    ).json

    assert dry.out == "would replay to shop.mail what it wants of position 0 to 6 (6 events at the most)\n"
    assert started["replay"].items() >= {"kind": "replay", "state": "running", "types": ["order.*"], "key": "0"}.items()
    assert set(started["replay"]["progress"]) == {
        "total", "processed", "failed", "percentage", "rate", "estimated_completion", "message",
    }  # fmt: skip
    log.walk_to_the_end(conn)
    assert [log.position(one) for one in log.run_all(conn, "shop.mail")] == [3, 5]
    walk = started["replay"]["id"]
    assert re.search(rf"{walk} +shop.mail +replay +done +100 %", shell("replay", "list").out)
    assert shell("replay", "list", "--running", "--json").json == []
    assert [one["id"] for one in shell("replay", "list", "shop.mail", "--json").json] == [walk]
    waited = shell("replay", "start", "shop.mail", "--after", 6, "--upto", 6, "--dry-run").out
    assert "(0 events at the most)" in waited


def test_a_replay_that_waits_ends_when_its_deliveries_are_over(
    shell: Shell, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.register(conn, tasks=["shop.mail"])
    subscribe(conn, "shop.mail")
    publish_many(conn, [{}] * 3)
    sequence(conn)
    work(conn, "shop.mail")
    doing: Iterator[Callable[[], object]] = iter(
        [lambda: log.walk_to_the_end(conn), lambda: log.run_all(conn, "shop.mail")]
    )
    monkeypatch.setattr("jobrunner.ops.cli.replaywait.time.sleep", lambda _: next(doing)())

    done = shell("replay", "start", "shop.mail", "--after", 0, "--wait")

    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"walk \d+ of shop.mail is done: 3 deliveries made\n", done.out)


def test_a_rewind_is_asked_about_and_takes_no_part(
    shell: Shell, conn: Connection, dead_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = shell("replay", "start", LEDGER, "--after", 0, "--key", "42", "--yes")
    refused = shell("replay", "start", LEDGER, "--after", 0)
    answer = io.StringIO("y\n")
    monkeypatch.setattr(sys, "stdin", answer)
    monkeypatch.setattr(answer, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    done = shell("replay", "start", LEDGER, "--after", 0)

    assert part.code == 5
    assert "it is ordered, so it can only be rewound" in part.err
    assert refused.code == 7
    assert f"rewind {LEDGER} to position 0 (3 events at the most) and cancel 3 open deliveries" in refused.err
    assert done.code == 0
    walk = shell("replay", "list", "--json").json[0]
    assert (walk["kind"], walk["state"]) == ("rewind", "running")
    assert shell("replay", "cancel", walk["id"]).code == 5
    assert shell("subs", "list", "--json").json[0]["condition"] == "catching_up"
    calls.sweep(conn)
    log.walk_to_the_end(conn)
    assert [log.position(one) for one in log.run_all(conn, LEDGER)] == [1, 2, 3]


def test_a_replay_is_cancelled_with_what_nobody_has_begun(shell: Shell, conn: Connection) -> None:
    subscribe(conn, "shop.mail")
    publish_many(conn, [{}] * 3)
    sequence(conn)
    walk = shell("replay", "start", "shop.mail", "--after", 0, "--json").json["replay"]["id"]
    log.step(conn, 2)

    assert shell("replay", "cancel", walk).out == f"walk {walk} cancelled, and 2 of its deliveries with it\n"
    assert shell("replay", "cancel", walk).out == f"walk {walk} was over already\n"
    assert shell("replay", "cancel", 99).err == "error: there is no replay 99; list them with: jobrunner replay list\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--after or --since says from where: give one of them"),
        (["--after", "1", "--since", "1h"], "--after or --since says from where"),
        (["--after", "1", "--upto", "2", "--until", "1h"], "--upto and --until were given"),
        (["--since", "tomorrow"], "--since is neither a time nor a length of time, got 'tomorrow'"),
        (["--since", "2026-01-01T00:00:00"], "--since needs a time zone"),
        (["--after", "1", "--type", "a..b"], "event pattern must be words"),
    ],
)
def test_a_replay_without_a_place_to_begin_is_refused(shell_of_all: Shell, args: list[str], said: str) -> None:
    refused = shell_of_all("replay", "start", "shop.mail", *args)

    assert refused.code == 2
    assert said in refused.err


# ------------------------------------------------------------------------------------------------------- sagas, status
def test_sagas_are_listed_by_what_they_need(shell: Shell, conn: Connection) -> None:
    conn.execute(
        "insert into jobrunner.sagas (name, key, state, compensation, timeout_at) values "
        "('shop.pay', 'a', '{\"card\": 4711}', '[]', now() + interval '1 hour'), "
        "('shop.pay', 'b', '{}', '[]', now() - interval '1 hour')"
    )

    assert {one["key"]: one["status"] for one in shell("sagas", "list", "--json").json} == {
        "a": "running",
        "b": "stuck",
    }
    assert [one["key"] for one in shell("sagas", "list", "--status", "stuck", "--json").json] == ["b"]
    assert re.search(r"shop.pay +b +stuck .*1h ago", shell("sagas", "list", "--name", "shop.pay").out)
    assert "4711" not in shell("sagas", "show", "shop.pay", "a").out
    assert "4711" in shell("sagas", "show", "shop.pay", "a", "--state").out
    assert shell("sagas", "show", "shop.pay", "z").code == 4
    (need,) = [one for one in shell("status", "--json").json["attention"] if one["code"] == "saga_attention"]
    assert need["message"].startswith("1 saga of shop.pay cannot go on")
    assert shell("sagas", "complete", "shop.pay", "b").out == "saga shop.pay b: completed\n"
    assert shell("sagas", "complete", "shop.pay", "b").code == 5
    assert shell("sagas", "compensate", "shop.pay", "z").code == 4


def test_status_tells_of_an_outbox_that_nobody_moves_and_of_who_lags(shell: Shell, conn: Connection) -> None:
    before = shell("status")
    subscribe(conn, LEDGER)
    publish_many(conn, [{}, {}])
    sequence(conn)
    conn.execute("update jobrunner.jobs set created_at = now() - interval '5 minutes'")
    publish_many(conn, [{}])
    conn.execute("update jobrunner.outbox set occurred_at = now() - interval '2 minutes'")

    told = shell("status", "--json").json
    shown = shell("status").out

    assert "outbox" not in before.out
    assert told["outbox"].items() >= {"pending": 1, "head_position": 2}.items()
    assert told["outbox"]["oldest_age_seconds"] == pytest.approx(120, abs=30)
    assert told["subscriptions"] == {one: int(one == "lagging") for one in CONDITIONS}
    found = {one["code"]: (one["severity"], one["message"]) for one in told["attention"]}
    assert found["outbox_stalled"] == (
        "error",
        "1 event waits in the outbox, the oldest for 2m, and no runner moves them",
    )
    assert found["subscription_lagging"] == ("warning", f"subscription {LEDGER} lags: 2 events wait, the oldest for 5m")
    assert re.search(r"outbox +1 event, the oldest for 2m", shown)
    assert re.search(r"subscriptions +1 lagging", shown)


def test_a_subscription_that_paused_itself_is_an_error(shell: Shell, conn: Connection) -> None:
    calls.register(conn, tasks=[LEDGER])
    subscribe(conn, LEDGER, on_dead="pause")
    publish_many(conn, [{}])
    sequence(conn)
    calls.settle(conn, 1, log.claim(conn, LEDGER), "dead", reason="failed", error="ValueError: no")

    (found,) = [one for one in shell("status", "--json").json["attention"] if one["code"] == "subscription_paused"]

    assert (found["severity"], found["hint"]) == ("error", f"jobrunner subs show {LEDGER}")
    assert "is paused by itself, 0 events wait: job" in found["message"]


def test_every_command_of_events_works_on_an_empty_database(shell_of_all: Shell) -> None:
    for args in ("events list", "events types", "subs list", "replay list", "sagas list"):
        shown = shell_of_all(*args.split())
        assert (shown.code, shown.err) == (0, ""), args
        assert shown.out.strip(), args
        assert shell_of_all(*args.split(), "--json").json == []
