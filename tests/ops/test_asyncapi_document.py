"""The AsyncAPI document of an app: its structure, that it is always the same, and the command that prints and checks it."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import pydantic
import pytest

from jobrunner import App, Event
from jobrunner.errors import ConfigError
from jobrunner.ops.asyncapi import document
from jobrunner.ops.cli import main
from jobrunner.ops.compatibility import changes
from jobrunner.ops.schemas import follow
from tests.ops.shop import OrderPaid, shop

ROOT = Path(__file__).resolve().parents[2]


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_the_document_has_the_parts_of_asyncapi_3() -> None:
    made = document(shop(), version="2.1.0")

    assert set(made) == {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"}
    assert (made["asyncapi"], made["info"]) == ("3.0.0", {"title": "shop", "version": "2.1.0"})
    assert all(re.fullmatch(r"[\w.-]+", name) for part in made["components"].values() for name in part)
    for operation in made["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert follow(made, operation["channel"]["$ref"])["address"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{operation['channel']['$ref']}/messages/")
    for channel in made["channels"].values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel.get("parameters", {}))


def test_every_reference_leads_somewhere() -> None:
    made = document(shop())

    found = references(made)
    assert len(found) > 20
    assert all(follow(made, reference) is not None for reference in found)
    assert "$defs" not in json.dumps(made)


def test_what_is_published_is_sent_and_what_is_subscribed_to_is_received() -> None:
    operations = document(shop())["operations"]

    assert {(name, one["action"]) for name, one in operations.items()} == {
        ("publish:order.paid", "send"),
        ("shop.post_ledger", "receive"),
        ("shop.audit:order.*", "receive"),
        ("shop.audit:#", "receive"),
        ("shop.totals", "receive"),
    }
    assert operations["shop.post_ledger"]["summary"] == "Posts what was paid."
    assert operations["shop.totals"]["summary"] == "Counts."
    assert operations["shop.post_ledger"]["x-jobrunner-ordered"] is True
    everything = operations["shop.audit:#"]
    assert everything["channel"] == {"$ref": "#/channels/%23"}
    assert [one["$ref"].rpartition("/")[2] for one in everything["messages"]] == [
        "order.paid.v2",
        "order.refunded.v1",
        "any",
    ]


def test_a_pattern_is_a_channel_with_parameters() -> None:
    channels = document(shop())["channels"]

    assert channels["order.*"]["address"] == "order.{word2}"
    assert channels["stock.#.gone"]["address"] == "stock.{words2}.gone"
    assert channels["stock.#.gone"]["messages"] == {"any": {"$ref": "#/components/messages/any"}}
    assert "parameters" not in channels["order.paid"]


def test_a_message_tells_what_its_class_says() -> None:
    made = document(shop())
    message = made["components"]["messages"]["order.paid.v2"]

    assert message["name"] == "order.paid"
    assert message["title"] == "OrderPaid v2"
    assert message["summary"] == "An order was paid."
    assert message["description"] == "An order was paid.\n\nAlso by voucher."
    assert message["contentType"] == "application/json"
    assert (message["x-jobrunner-version"], message["x-jobrunner-oldest"]) == (2, 1)
    assert message["x-jobrunner-key"] == "order_id"
    headers = follow(made, message["headers"]["$ref"])
    assert {"id", "source", "type", "specversion", "time"} <= set(headers["required"]) <= set(headers["properties"])
    assert "summary" not in made["components"]["messages"]["order.refunded.v1"]


def test_a_payload_has_all_that_is_written_and_what_is_read_may_leave_defaults_out() -> None:
    made = document(shop())
    message = made["components"]["messages"]["order.paid.v2"]
    payload, accepts = (follow(made, message[part]["$ref"]) for part in ("payload", "x-jobrunner-accepts"))

    assert payload["required"] == sorted(OrderPaid.model_fields)
    assert accepts["required"] == ["amount", "order_id"]
    assert payload["properties"]["amount"].items() >= {"type": "string", "format": "decimal"}.items()
    assert {one["type"] for one in accepts["properties"]["amount"]["anyOf"]} == {"number", "string"}


def test_schemas_speak_draft_7() -> None:
    schemas = document(shop())["components"]["schemas"]
    paid = schemas["OrderPaid-Output"]["properties"]

    assert "discriminator" not in paid["how"]
    assert paid["place"]["anyOf"][0]["items"] == [{"type": "integer"}, {"type": "string"}]
    assert paid["tree"]["allOf"] == [{"$ref": "#/components/schemas/Tree-Output"}]
    assert paid["tags"]["default"] == ["x", "y", "z"]


def test_two_classes_of_one_type_are_two_messages() -> None:
    class Part(Event, name="order.paid", version=2, oldest=2):
        order_id: UUID

    app = shop()
    app.on(Part, name="shop.part")(lambda ctx, event: None)
    made = document(app)

    assert set(made["components"]["messages"]) == {"any", "order.paid.v2", "order.paid.v2.Part", "order.refunded.v1"}
    assert made["operations"]["shop.part"]["messages"] == [
        {"$ref": "#/channels/order.paid/messages/order.paid.v2.Part"}
    ]


def test_an_app_without_events_has_a_document() -> None:
    made = document(App("quiet"))

    assert made["channels"] == made["operations"] == {}
    assert changes(made, made) == []


def test_a_class_without_a_schema_is_told() -> None:
    class Odd(Event, name="odd"):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        what: App

    app = App("shop")
    app.publishes(Odd)

    with pytest.raises(ConfigError, match="the events of app shop have no JSON schema"):
        document(app)


def test_the_text_is_the_same_in_every_process() -> None:
    """A set's default comes in another order with every hash seed."""
    program = (
        "import json; from tests.ops.shop import shop; from jobrunner.ops.asyncapi import document; "
        "print(json.dumps(document(shop())))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(texts) == 1
    assert json.loads(texts.pop()) == document(shop())


# ------------------------------------------------------------------------------------------------- the command

SHOP = """
from jobrunner import App, Event

class OrderPaid(Event, name="order.paid"):
    amount: int
    note: str = ""

app = App("shop")
app.publishes(OrderPaid)
"""


Write: TypeAlias = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the module `asyncapi_shop`, in a directory that is also where files of the test are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> None:
        sys.modules.pop("asyncapi_shop", None)
        Path("asyncapi_shop.py").write_text(text)
        importlib.invalidate_caches()

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    sys.modules.pop("asyncapi_shop", None)


def test_the_command_prints_the_document_and_needs_no_database(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(SHOP)

    assert main(["asyncapi", "asyncapi_shop:app", "--api-version", "3.1"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed["info"] == {"title": "shop", "version": "3.1"}
    assert list(printed["channels"]) == ["order.paid"]


def test_check_of_the_same_app_ends_well(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(SHOP)
    main(["asyncapi", "asyncapi_shop:app"])
    Path("old.json").write_text(capsys.readouterr().out)

    assert main(["asyncapi", "asyncapi_shop:app", "--check", "old.json"]) == 0
    assert capsys.readouterr().out == "compatible with old.json\n"
    assert main(["asyncapi", "asyncapi_shop", "--check", "old.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"compatible": True, "changes": []}


def test_check_tells_each_change_in_a_line_and_ends_with_3(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(SHOP)
    main(["asyncapi", "asyncapi_shop:app"])
    Path("old.json").write_text(capsys.readouterr().out)
    write(SHOP.replace("amount: int", "amount: str").replace("note", "remark"))

    assert main(["asyncapi", "asyncapi_shop:app", "--check", "old.json"]) == 3
    said = capsys.readouterr()
    assert said.out == "order.paid v1: amount was integer and is string\norder.paid v1: note was removed\n"
    assert said.err.startswith("error: incompatible with old.json: order.paid v1: amount was integer")
    assert said.err.endswith("; undo it, or give the event a new version\n")

    assert main(["asyncapi", "asyncapi_shop:app", "--check", "old.json", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["compatible"] is False
    assert shown["changes"][1] == {"type": "order.paid", "version": 1, "path": "note", "change": "was removed"}


def test_check_of_a_file_that_cannot_be_read_is_a_usage_error(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(SHOP)
    Path("other.json").write_text('{"openapi": "3.1.0"}')

    assert main(["asyncapi", "asyncapi_shop:app", "--check", "none.json"]) == 2
    assert main(["asyncapi", "asyncapi_shop:app", "--check", "other.json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "error: cannot read none.json: No such file or directory",
        "error: cannot read other.json: it is no AsyncAPI 3 document; give it the output of jobrunner asyncapi",
    ]
