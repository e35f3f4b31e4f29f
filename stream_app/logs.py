r"""Log of a worker on standard error: each message is one line, as text or as JSON.

    text   2026-11-25 12:00:00 INFO ready: 2 destinations, windows of 60 s
    json   {"time": "2026-11-25T12:00:00.123Z", "level": "info", "event": "ready", "message": …}

Messages quote text of others: errors of S3 and Kafka, an exception's message. A line end in it must
not forge a message, nor a control character steer the terminal that shows it. So each message is
one printable line, in JSON each text of it, and a traceback stays with its message: on indented
lines below it, or in its field.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TextIO

from stream_app.errors import DeliveryError
from stream_app.log_declaration import LINES_PER_MINUTE_MAX, LogEvent
from stream_app.log_events import LIBRARY, SUPPRESSED
from stream_app.text import iso, printable, printable_json

SERVICE_LOGGER: Final = logging.getLogger("faust.stream_app")
"""Logger of our services' starts and stops, beside Faust's own such messages."""


Format = Literal["auto", "text", "json"]

INDENT: Final = "  "
TEXT_LENGTH_MAX: Final = 4_000
"""Characters of a message, and of each of its fields; longer ones are cut."""
TRACEBACK_LENGTH_MAX: Final = 16_000
"""Characters of a traceback; its end stays, which names the exception."""
LEVELS: Final = logging.getLevelNamesMapping()
MINUTE_SECONDS: Final = 60
OURS: Final = "stream_app"
_COLOURS: Final = {"DEBUG": 2, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}
"""Codes of "select graphic rendition"."""
_DIM: Final = 2


def log_event(logger: logging.Logger, event: LogEvent, /, **values: object) -> None:
    """Log an event; its text is formatted only when a handler emits it.

    Args:
        logger: The module's.
        event: The declaration: level, text and fields.
        **values: The event's fields and the values that only its text has.
    """
    level = LEVELS[event.level.upper()]
    if logger.isEnabledFor(level):
        shown = {name: "none" if it is None else it for name, it in values.items()}
        fields = {name: values[name] for name in event.fields if values.get(name) is not None}
        extra = {"log_event": event, "fields": fields}
        logger.log(level, event.text, *([shown] if shown else []), extra=extra, stacklevel=2)


def is_written(logger: logging.Logger, event: LogEvent, now: float) -> bool:
    """Whether an event is to be logged; if too many were this minute, it is counted at once.

    For an event that comes once for each object: a message costs twenty times as much.

    Args:
        logger: The module's.
        event: The event.
        now: The present, in seconds since 1970.
    """
    if not logger.isEnabledFor(LEVELS[event.level.upper()]):
        return False
    handlers = logging.getLogger().handlers
    return not (
        len(handlers) == 1
        and isinstance(handlers[0], BoundedHandler)
        and handlers[0].has_suppressed(event, now)
    )


def error_fields(error: BaseException) -> dict[str, str]:
    """Return the fields `code` and `error` of an exception."""
    if isinstance(error, DeliveryError):
        return {"code": error.code, "error": error.message}
    return {"code": type(error).__name__, "error": str(error)}


class LineFormatter(logging.Formatter):
    """Formatter of a message as one line, and of its traceback as indented lines.

    Args:
        has_colours: Whether the level is coloured.
    """

    def __init__(self, *, has_colours: bool = False) -> None:
        super().__init__()
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the message's lines, without the last line end."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        level = record.levelname
        if self._has_colours:
            at, level = _coloured(_DIM, at), _coloured(_COLOURS.get(level, 0), level)
        name = "" if _is_ours(record) else f"{record.name}: "
        first = f"{at} {level} {printable(name)}{_cut(_message(record))}"
        return "\n".join([first, *(INDENT + line for line in _details(record))])


class JsonFormatter(logging.Formatter):
    """Formatter of a message as one JSON object on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        event: LogEvent = getattr(record, "log_event", LIBRARY)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        document: dict[str, Any] = {
            "time": f"{at}.{int(record.created % 1 * 1000):03}Z",
            "level": record.levelname.lower(),
            "event": event.name,
            "message": _cut(_message(record)),
        }
        if event is LIBRARY:
            document["logger"] = printable(record.name)
        fields: Mapping[str, object] = getattr(record, "fields", {})
        for name, value in fields.items():
            document[name] = _cut(value) if isinstance(value, str) else value
        details = list(_details(record))
        if details:
            document["traceback"] = "\n".join(details)
        return printable_json(json.dumps(document, default=str))


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Handler that writes a bounded number of each event a minute, and counts the others.

    Args:
        stream: Where to.
        is_bounded: Whether any message is suppressed.
    """

    def __init__(self, stream: TextIO, *, is_bounded: bool) -> None:
        super().__init__(stream)
        self._is_bounded = is_bounded
        self._minute = 0
        self._written: Counter[str] = Counter()
        """By event, in this minute; messages of libraries by their logger."""
        self._suppressed: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, or suppress it."""
        minute = int(record.created // MINUTE_SECONDS)
        if minute != self._minute:
            self._log_suppressed()
            self._minute = minute
            self._written.clear()
        event: LogEvent | None = getattr(record, "log_event", None)
        kind, most = (event.name, event.lines_max) if event else (record.name, LINES_PER_MINUTE_MAX)
        self._written[kind] += 1
        if self._is_bounded and self._written[kind] > most:
            self._suppressed[event.name if event else LIBRARY.name] += 1
        else:
            super().emit(record)

    def has_suppressed(self, event: LogEvent, now: float) -> bool:
        """Suppress a message that is not made yet, if the minute has enough of them."""
        self.acquire()
        try:
            is_over = (
                self._is_bounded
                and int(now // MINUTE_SECONDS) == self._minute
                and self._written[event.name] >= event.lines_max
            )
            if is_over:
                self._suppressed[event.name] += 1
            return is_over
        finally:
            self.release()

    def close(self) -> None:
        """Log the number of messages that were suppressed last."""
        self._log_suppressed()
        super().close()

    def _log_suppressed(self) -> None:
        if not self._suppressed:
            return
        suppressed = dict(self._suppressed)
        self._suppressed.clear()
        shown = {
            "minute": iso(self._minute * MINUTE_SECONDS),
            "counts": ", ".join(f"{count} {kind}" for kind, count in suppressed.items()),
        }
        record = logging.LogRecord(
            __name__, logging.INFO, __file__, 0, SUPPRESSED.text, (shown,), None
        )
        record.log_event, record.fields = SUPPRESSED, {"suppressed": suppressed}
        super().emit(record)


def is_json(log_format: Format, stream: TextIO) -> bool:
    """Whether messages to a stream are JSON."""
    return log_format == "json" or (log_format == "auto" and not stream.isatty())


def formatter(
    log_format: Format, stream: TextIO, environment: Mapping[str, str]
) -> logging.Formatter:
    """Return the formatter of messages to a stream; see `log_to_standard_error`."""
    if is_json(log_format, stream):
        return JsonFormatter()
    shows = stream.isatty() and environment.get("TERM") != "dumb"
    return LineFormatter(has_colours=shows and not environment.get("NO_COLOR"))


def log_to_standard_error(level: str, log_format: Format, environment: Mapping[str, str]) -> None:
    """Log messages of `level` and above from now on.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        log_format: `text`, `json`, or by whether standard error is a terminal: `auto`.
        environment: Colours are for terminals, unless `NO_COLOR` or `TERM=dumb` is set there.
    """
    handler = BoundedHandler(sys.stderr, is_bounded=LEVELS[level.upper()] > logging.DEBUG)
    handler.setFormatter(formatter(log_format, sys.stderr, environment))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    _log_python_errors()


def _log_python_errors() -> None:
    """Log the errors and warnings that Python itself would write to standard error."""
    logger = logging.getLogger("python")

    def raised(kind: Any, error: Any, frames: Any) -> None:  # noqa: ANN401 - Python's signature
        logger.error("not caught: %r", error, exc_info=(kind, error, frames))

    def unraisable(it: "sys.UnraisableHookArgs | threading.ExceptHookArgs") -> None:
        raised(it.exc_type, it.exc_value, it.exc_traceback)

    sys.excepthook, sys.unraisablehook, threading.excepthook = raised, unraisable, unraisable
    logging.captureWarnings(capture=True)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # The arguments of a library's message do not fit it: show them as they are.
        return f"{record.msg} {record.args!r}"


def _details(record: logging.LogRecord) -> Iterator[str]:
    """Yield the lines of the traceback and the stack that belong to a message."""
    texts = []
    if record.exc_info and record.exc_info[1] is not None:
        texts += ["".join(traceback.format_exception(record.exc_info[1]))]
    if record.stack_info:
        texts += [record.stack_info]
    for text in texts:
        more = len(text) - TRACEBACK_LENGTH_MAX
        if more > 0:
            yield f"({more} characters omitted)"
        for line in text[-TRACEBACK_LENGTH_MAX:].rstrip("\n").split("\n"):
            yield printable(line)


def _cut(text: str) -> str:
    """Return a text on one line, and no longer than it may be."""
    more = len(text) - TEXT_LENGTH_MAX
    if more > 0:
        text = f"{text[:TEXT_LENGTH_MAX]}… ({more} characters more)"
    return printable(text)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == OURS


def _coloured(code: int, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
