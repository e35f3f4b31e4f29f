"""What an event is: one JSON value in UTF-8. Pure."""

import json

import orjson


def event_mistake(value: bytes) -> str | None:
    """Say why a record's value is no event, and what to do; None when it is one."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        # orjson refuses some JSON that the payload expressions' engine reads (lone surrogates).
        try:
            json.loads(value.decode(), parse_constant=_refuse)
        except UnicodeDecodeError as error:
            return f"byte {error.start + 1} of the line is no UTF-8; write UTF-8"
        except RecursionError:
            return "it is nested too deeply; write a flatter event"
        except ValueError as error:
            return f"it is no JSON: {error}; write one JSON value on each line"
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")
