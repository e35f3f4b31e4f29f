"""Events of the demo: HTTP events of a shop, the same each time."""

from pathlib import Path
from typing import Any, Final

import orjson

EVENT_COUNTS: Final = {"orders": 18, "signups": 12}
TEST_EVERY: Final = 4
ITEMS: Final = ("espresso cups", "kettle", "hand grinder", "filter papers", "scale", "carafe")
PEOPLE: Final = ("ada", "grace", "edsger", "barbara", "donald", "frances", "tony", "radia")
PLANS: Final = ("free", "team", "enterprise")
AGENTS: Final = ("curl/8.5.0", "shop-checkout/4.2", "python-requests/2.32.3")


def write_events(folder: Path) -> dict[str, Path]:
    """Write the events into one file for each pipeline; return the files by pipeline."""
    files = {}
    for pipeline, count in EVENT_COUNTS.items():
        files[pipeline] = folder / f"{pipeline}.ndjson"
        files[pipeline].write_bytes(
            b"".join(orjson.dumps(_event(pipeline, number)) + b"\n" for number in range(count))
        )
    return files


def _event(pipeline: str, number: int) -> dict[str, Any]:
    """Return an event as an HTTP source would produce it."""
    person = PEOPLE[number % len(PEOPLE)]
    body: dict[str, Any]
    if pipeline == "orders":
        body = {
            "order": 1001 + number,
            "customer": f"{person}@example.com",
            "item": ITEMS[number % len(ITEMS)],
            "quantity": number % 3 + 1,
            "total": round(19.9 + 7.25 * number, 2),
        }
    else:
        body = {
            "email": f"{person}@example.com",
            "plan": PLANS[number % len(PLANS)],
            # One signup of TEST_EVERY is a test: its payload is undefined, so it is skipped.
            "test": number % TEST_EVERY == 0,
        }
    agent = AGENTS[number % len(AGENTS)]
    headers = {"host": "in.example.com", "user-agent": agent, "content-type": "application/json"}
    return {
        "inferred_body_type": "JSON",
        "headers": headers,
        "method": "POST",
        "proto": {
            "headers": [[name, value] for name, value in headers.items()],
            "method": "POST",
            "scheme": "https",
            "http_version": "V11",
            "client_ip": f"203.0.113.{number + 1}",
            "uri": f"/{pipeline}",
        },
        "client_ip": f"203.0.113.{number + 1}",
        "body": body,
        "url": f"https://in.example.com/{pipeline}",
    }
