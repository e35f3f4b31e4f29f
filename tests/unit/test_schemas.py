"""The published schemas agree with each other, with their own examples, and with the code."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from stream_app.cli.topics import PARTITIONS_DEFAULT
from stream_app.config.settings import Kafka
from stream_app.core.commit_metadata import Commit
from stream_app.core.object_key import identifier, object_key
from stream_app.core.partition import Partition
from stream_app.core.receipt import Message, Problem, Receipt, Source, Status, Tally
from stream_app.redelivery.owed import events_identifier
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    MINUTE,
    RULES,
    batch,
    collect,
    record,
    record_closings,
    stored,
)

SCHEMAS = Path(__file__).parents[2] / "schemas"
RECEIPT = json.loads((SCHEMAS / "receipt.schema.json").read_text("utf-8"))
EVENT = json.loads((SCHEMAS / "event.schema.json").read_text("utf-8"))
ASYNCAPI = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text("utf-8"))
PROBLEM = Problem("SlowDown", "Reduce your request rate.", retryable=True)

both = pytest.mark.parametrize("schema", [RECEIPT, EVENT], ids=["receipt", "event"])


def validate(document: object, schema: dict[str, Any] = RECEIPT) -> None:
    jsonschema.Draft202012Validator(schema).validate(document)


def messages() -> dict[Status, Message]:
    """Return a receipt of each status, as a partition makes it from real records."""
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    texts = ["1", "skip", "skip", "fail TypeError: no", "2"]
    collect(partition, batch(*(record(10 + n, 1, it) for n, it in enumerate(texts))), 2)
    partition.tick(MINUTE + 62, 15)
    collect(partition, batch(record(15, 61, "skip", key=b"signups")), 62, EVERY)
    partition.tick(MINUTE + 122, 16)
    collect(partition, batch(record(16, 121)), 122, EVERY)
    partition.tick(MINUTE + 182, 17)
    record_closings(partition)
    first, second, third = partition.delivery_tasks()
    receipts = [
        partition.retrying(first, PROBLEM, attempts=3),
        partition.uploaded(first, stored(partition.content(first) or b""), attempts=4),
        partition.uploaded(second, None, attempts=0),
        partition.uploaded(third, PROBLEM, attempts=9),
    ]
    # As `redeliver` says of the window that was given up.
    again = replace(
        receipts[3], status=Status.REDELIVERED, stored=stored(b"x"), problem=None, answers=(13,)
    )
    receipts.append(again)
    return {it.status: it.message(MINUTE + 200) for it in receipts}


def redeliveries() -> dict[str, Receipt]:
    """Return the receipts that `redeliver` alone publishes."""
    tally = Tally(2)
    whole = Receipt(
        status=Status.REDELIVERED,
        group=RULES.group,
        destination="every",
        pipeline=None,
        window_start=MINUTE,
        window_end=MINUTE + 60,
        source=Source(*EVENTS, 10, 15, MINUTE + 62),
        tally=tally,
        bucket="my-bucket",
        key=object_key("", MINUTE + 62, identifier(*EVENTS, 10, MINUTE + 62, "every")),
        size_uncompressed=4,
        closed_at=MINUTE + 62,
        attempts=1,
        stored=stored(b"x"),
    )
    events = replace(whole, answers=(11, 13))
    return {
        "window": whole,
        "announced": replace(whole, status=Status.RETRYING, problem=PROBLEM, attempts=0),
        "withdrawn": replace(whole, status=Status.FAILED, problem=PROBLEM),
        "events": events,
        "skipped events": replace(
            events, status=Status.EMPTY, stored=None, tally=Tally(2, [[11, 13]], 2)
        ),
    }


REDELIVERIES = redeliveries()
each_redelivery = pytest.mark.parametrize("name", REDELIVERIES)


MESSAGES = messages()
each_status = pytest.mark.parametrize("status", list(Status))


def described(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each field and item of a schema, and whether it is described."""
    for option in schema.get("anyOf", ()):
        yield from described(option, place)
    for name, field in schema.get("properties", {}).items():
        yield f"{place}/{name}", bool(field.get("description"))
        yield from described(field, f"{place}/{name}")
    items = [*schema.get("prefixItems", []), *[schema[it] for it in ("items",) if it in schema]]
    for number, item in enumerate(items):
        yield f"{place}[{number}]", bool(item.get("description"))
        yield from described(item, f"{place}[{number}]")


def fields(document: object, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield each field of a document that its schema does not name."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name not in schema.get("properties", {}):
                yield f"{place}/{name}"
            else:
                yield from fields(value, schema["properties"][name], f"{place}/{name}")
    if isinstance(document, list) and "items" in schema:
        for value in document:
            yield from fields(value, schema["items"], f"{place}[]")


@both
def test_a_schema_is_valid_by_its_metaschema(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


TYPES = {
    "items": "array",
    "maxItems": "array",
    "minItems": "array",
    "prefixItems": "array",
    "uniqueItems": "array",
    "maximum": "number",
    "minimum": "number",
    "additionalProperties": "object",
    "properties": "object",
    "required": "object",
    "format": "string",
    "minLength": "string",
    "pattern": "string",
}
"""Type that a keyword applies to."""


def loose(schema: Any, types: frozenset[str], place: str = "") -> Iterator[str]:
    """Yield what `ajv` refuses in its strict mode, by the rule of its `strictTypes`."""
    named = schema.get("type", ())
    named = frozenset([named] if isinstance(named, str) else named)
    if len(named - {"null"}) > 1:
        yield f"{place}: several types"
    types = named or types
    for keyword, needed in TYPES.items():
        known = types | {"number"} if "integer" in types else types
        if keyword in schema and needed not in known:
            yield f"{place}: {keyword} without the type {needed}"
    for keyword in ("allOf", "anyOf", "if", "then"):
        options = schema.get(keyword, [])
        for option in options if isinstance(options, list) else [options]:
            yield from loose(option, types, f"{place}/{keyword}")
    for keyword in ("properties", "$defs"):
        for name, field in schema.get(keyword, {}).items():
            yield from loose(field, frozenset(), f"{place}/{name}")
    items = [*schema.get("prefixItems", []), *[schema[it] for it in ("items",) if it in schema]]
    for item in items:
        yield from loose(item, frozenset(), f"{place}[]")


@both
def test_a_schema_is_accepted_in_strict_mode(schema: dict[str, Any]) -> None:
    assert list(loose(schema, frozenset())) == []


@both
def test_a_schema_has_a_versioned_name(schema: dict[str, Any]) -> None:
    assert re.fullmatch(r"urn:stream-app:[a-z]+:v1", schema["$id"])


@both
def test_every_field_is_described(schema: dict[str, Any]) -> None:
    found = dict(described(schema))
    assert len(found) > 10
    assert [place for place, has in found.items() if not has] == []


@both
def test_the_examples_validate(schema: dict[str, Any]) -> None:
    assert len(schema["examples"]) > 1
    for example in schema["examples"]:
        validate(example, schema)


@pytest.mark.parametrize("example", RECEIPT["examples"], ids=lambda it: it["status"])
def test_the_numbers_of_an_example_agree(example: dict[str, Any]) -> None:
    counts, source = example["counts"], example["source"]
    assert counts["matched"] == counts["delivered"] + counts["skipped"] + counts["failed"]
    assert counts["failed"] == len(example["failed"])
    assert counts["matched"] <= source["end_offset"] - source["first_offset"]
    assert counts["skipped"] <= sum(last - first + 1 for first, last in example["skipped"])
    if example["object"] is not None:
        assert example["object"]["lines"] == counts["delivered"]


def test_the_key_of_an_example_is_the_one_that_the_code_makes() -> None:
    closed_at = 1_795_537_922
    name = identifier("events", 3, 4242, closed_at, "orders-archive")
    assert RECEIPT["examples"][0]["object"]["key"] == object_key("test/", closed_at, name)
    source = Source("events", 3, 4242, 4300, closed_at)
    name = events_identifier(source, "orders-archive", [4260])
    assert RECEIPT["examples"][-1]["object"]["key"] == object_key("test/", closed_at, name)


@each_status
def test_receipts_of_every_status_validate(status: Status) -> None:
    document = orjson.loads(MESSAGES[status].value)
    assert document["status"] == status
    validate(document)


@each_redelivery
def test_receipts_of_a_redelivery_validate_and_have_no_unknown_field(name: str) -> None:
    document = orjson.loads(REDELIVERIES[name].message(MINUTE).value)
    validate(document)
    assert list(fields(document, RECEIPT)) == []


@pytest.mark.parametrize("field", ["size", "checksum"])
def test_only_an_object_that_existed_already_may_be_of_unknown_bytes(field: str) -> None:
    document = orjson.loads(MESSAGES[Status.DELIVERED].value)
    document["object"][field] = None
    with pytest.raises(jsonschema.ValidationError):
        validate(document)
    validate({**document, "already_existed": True})


@pytest.mark.parametrize("answers", [[], [-1], [11, 11], ["11"], 11, None])
def test_mangled_answers_are_refused(answers: object) -> None:
    document = orjson.loads(REDELIVERIES["events"].message(MINUTE).value)
    with pytest.raises(jsonschema.ValidationError):
        validate({**document, "answers": answers})


@each_status
def test_the_schema_names_every_field_that_is_sent(status: Status) -> None:
    assert list(fields(orjson.loads(MESSAGES[status].value), RECEIPT)) == []


def test_the_schema_knows_every_status() -> None:
    known = RECEIPT["properties"]["status"]["enum"]
    assert set(known) == set(Status)


@each_status
@pytest.mark.parametrize("field", RECEIPT["required"])
def test_a_receipt_without_a_required_field_is_refused(status: Status, field: str) -> None:
    document = orjson.loads(MESSAGES[status].value)
    del document[field]
    with pytest.raises(jsonschema.ValidationError):
        validate(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", "lost"),
        ("destination", "Orders"),
        ("pipeline", 7),
        ("window/start", "2026-11-24 16:31:00"),
        ("window/end", 1_795_537_920),
        ("source/first_offset", -1),
        ("source/end_offset", "15"),
        ("counts/matched", 0),
        ("counts/failed", -1),
        ("skipped/0", [11]),
        ("skipped/0", [11, 12, 13]),
        ("skipped/0", 11),
        ("failed/0", {"offset": 13}),
        ("failed/0/error", None),
        ("object", None),
        ("object/key", "test/x.gz"),
        ("object/size", None),
        ("object/lines", 0),
        ("object/checksum", None),
        ("object/checksum/value", 5),
        ("attempts", -1),
        ("already_existed", None),
        ("uploaded_at", None),
        ("stored_at", None),
        ("stored_at", "2026-11-24 16:32:02"),
        ("error", {"code": "SlowDown", "message": "", "retryable": True}),
    ],
)
def test_a_mangled_receipt_is_refused(path: str, value: object) -> None:
    document = orjson.loads(MESSAGES[Status.DELIVERED].value)
    place = document
    *above, last = [int(it) if it.isdigit() else it for it in path.split("/")]
    for step in above:
        place = place[step]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document)


@each_status
def test_a_receipt_of_a_version_before_the_time_of_storage_validates(status: Status) -> None:
    document = orjson.loads(MESSAGES[status].value)
    del document["stored_at"]
    validate(document)


def test_a_receipt_with_a_field_of_a_later_version_validates() -> None:
    validate({**orjson.loads(MESSAGES[Status.DELIVERED].value), "colour": "blue"})


@pytest.mark.parametrize("value", [{"a": 1}, [1], "text", 7, 1.5, True, None])
def test_any_json_value_is_an_event(value: object) -> None:
    validate(value, EVENT)


def test_the_fields_of_http_events_are_typed() -> None:
    example = copy.deepcopy(EVENT["examples"][0])
    example["proto"]["headers"][0] = ["host"]
    with pytest.raises(jsonschema.ValidationError):
        validate(example, EVENT)


# --- asyncapi.yaml ---
# No package of PyPI carries AsyncAPI's own schema, so what the document must hold is asked here.


def objects(node: object) -> Iterator[dict[str, Any]]:
    """Yield every object in the document."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from objects(value)


def follow(reference: str) -> dict[str, Any]:
    """Return what a reference of the document leads to."""
    file, _, pointer = reference.partition("#")
    target = json.loads((SCHEMAS / file).read_text("utf-8")) if file else ASYNCAPI
    for step in pointer.split("/")[1:]:
        target = target[step]
    return target


def test_the_document_is_asyncapi_three() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(ASYNCAPI["info"])
    assert set(ASYNCAPI) <= {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }


def test_every_reference_leads_somewhere() -> None:
    found = [node["$ref"] for node in objects(ASYNCAPI) if "$ref" in node]
    assert {"event.schema.json", "receipt.schema.json"} < set(found)
    for reference in found:
        assert follow(reference)


def test_servers_have_host_and_protocol() -> None:
    for server in ASYNCAPI["servers"].values():
        assert server["protocol"] == "kafka"
    assert f"kafka://{ASYNCAPI['servers']['kafka']['host']}" == Kafka().broker


def test_operations_send_and_receive_messages_of_their_channel() -> None:
    actions = {}
    for name, operation in ASYNCAPI["operations"].items():
        channel = operation["channel"]["$ref"]
        actions[name] = (operation["action"], follow(channel)["address"])
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
    assert actions == {
        "collectEvents": ("receive", Kafka().events_topic),
        "publishReceipts": ("send", Kafka().receipts_topic),
    }


def test_channel_addresses_are_the_default_topics() -> None:
    channels = ASYNCAPI["channels"]
    assert channels["events"]["address"] == Kafka().events_topic
    assert channels["deliveryReceipts"]["address"] == Kafka().receipts_topic
    for channel in channels.values():
        binding = channel["bindings"]["kafka"]
        assert binding["topic"] == channel["address"]
        assert binding["partitions"] == PARTITIONS_DEFAULT


def test_the_consumer_group_is_the_default_one() -> None:
    binding = ASYNCAPI["operations"]["collectEvents"]["bindings"]["kafka"]
    assert binding["groupId"]["default"] == Kafka().group


def test_every_kafka_binding_names_its_version() -> None:
    found = [node["bindings"]["kafka"] for node in objects(ASYNCAPI) if "bindings" in node]
    assert len(found) == 6
    assert {it["bindingVersion"] for it in found} == {"0.5.0"}


@pytest.mark.parametrize(("name", "schema"), [("event", EVENT), ("receipt", RECEIPT)])
def test_payloads_are_the_two_schemas(name: str, schema: dict[str, Any]) -> None:
    payload = ASYNCAPI["components"]["messages"][name]["payload"]
    assert payload["schemaFormat"] == "application/schema+json;version=draft-2020-12"
    assert follow(payload["schema"]["$ref"]) == schema


@each_status
def test_headers_and_key_are_those_of_the_document(status: Status) -> None:
    message = MESSAGES[status]
    described_message = ASYNCAPI["components"]["messages"]["receipt"]
    headers = {name: text.decode() for name, text in message.headers}
    assert set(headers) <= set(described_message["headers"]["properties"])
    key = described_message["bindings"]["kafka"]["key"]
    for instance, schema in ((headers, described_message["headers"]), (message.key.decode(), key)):
        jsonschema.Draft202012Validator(schema).validate(instance)


def test_the_document_names_no_header_that_is_never_sent() -> None:
    sent = {name for message in MESSAGES.values() for name, _ in message.headers}
    assert sent == set(ASYNCAPI["components"]["messages"]["receipt"]["headers"]["properties"])
    always = set.intersection(*({name for name, _ in it.headers} for it in MESSAGES.values()))
    assert always == set(ASYNCAPI["components"]["messages"]["receipt"]["headers"]["required"])


def test_an_event_binds_its_pipeline_as_the_key() -> None:
    assert "key" in ASYNCAPI["components"]["messages"]["event"]["bindings"]["kafka"]
