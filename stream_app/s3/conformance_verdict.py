"""Verdicts on an S3 server: from its responses to what its faults mean for the promises.

`conformance` sends the requests. Each verdict names its question, the finding, the meaning of a
fault for deliveries, and the setting that takes account of it, if there is one.

Pure: responses in, verdicts out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from stream_app.config.settings import Destination
from stream_app.core.object_format import content_type_of
from stream_app.text import counted

ALGORITHMS: Final = ("sha256", "crc32", "md5")
"""Values of `checksum`, the strongest first."""
UNCONDITIONAL: Final = "conditional_writes = false"
_GROUPS: Final = "http://acs.amazonaws.com/groups/global/"
_ACL_GRANTS: Final[Mapping[str, tuple[str, str]]] = {
    "authenticated-read": (f"{_GROUPS}AuthenticatedUsers", "READ"),
    "public-read": (f"{_GROUPS}AllUsers", "READ"),
    "public-read-write": (f"{_GROUPS}AllUsers", "WRITE"),
}
"""Group and permission by which GetObjectAcl shows a canned ACL; others cannot be recognized."""
_FIELDS: Final[Mapping[str, str]] = {
    "content_encoding": "ContentEncoding",
    "content_type": "ContentType",
    "sse": "ServerSideEncryption",
    "storage_class": "StorageClass",
}
"""Field of HeadObject in which S3 shows an option."""
_STANDARD: Final = "STANDARD"
"""Storage class of an object for which HeadObject names none."""


class Result(StrEnum):
    """Result of one question."""

    PASSED = "passed"
    FAILED = "failed"
    NOTED = "noted"
    """Worth knowing, and no fault; or a fault of which the settings take account already."""
    UNKNOWN = "unknown"
    """A right is missing, the server did not respond, or an earlier fault hides the answer."""


class Verdict(NamedTuple):
    """Verdict on one question."""

    question: str
    result: Result
    found: str
    meaning: str = ""
    """Of a fault, for deliveries; empty otherwise."""
    setting: str | None = None
    """Line of the destination's configuration that takes account of the fault."""

    def document(self) -> dict[str, object]:
        """Return the verdict for a program."""
        return {
            "question": self.question,
            "result": str(self.result),
            "found": self.found,
            "meaning": self.meaning or None,
            "setting": self.setting,
        }


class Kind(StrEnum):
    """Kind of a response, as far as verdicts depend on it."""

    DONE = "done"
    EXISTS = "exists"
    """Refused with 412, since the key exists."""
    MISSING = "missing"
    """Refused, since the key does not exist."""
    REFUSED = "refused"
    """Refused for another reason."""
    SILENT = "silent"
    """There was no response, and the code is our own."""
    NOT_ASKED = "not asked"


class Response(NamedTuple):
    """Response to one request."""

    kind: Kind = Kind.DONE
    code: str = ""
    """S3's error code; empty: success."""

    @property
    def is_done(self) -> bool:
        """Whether the server has done what was requested."""
        return self.kind is Kind.DONE

    @property
    def is_refused(self) -> bool:
        """Whether the server has responded with an error."""
        return self.kind in {Kind.EXISTS, Kind.MISSING, Kind.REFUSED}


NOT_ASKED: Final = Response(Kind.NOT_ASKED)


class Race(NamedTuple):
    """Writers of one key at the same time, each with `If-None-Match: *`."""

    written: int
    """Those that S3 has confirmed."""
    failed: int
    """Those with an error other than a refusal for the condition."""


class ChecksumTrial(NamedTuple):
    """Uploads with a checksum of one algorithm."""

    right: Response
    """PutObject with the right checksum."""
    wrong: Response
    """PutObject with the checksum of another content."""
    is_stored: bool | None
    """Whether there is an object afterwards; None: unknown."""
    part: Response
    """UploadPart with the checksum of another content."""

    @property
    def is_verified(self) -> bool:
        """Whether the server accepts the algorithm, and verifies it everywhere."""
        return (
            self.right.is_done
            and self.wrong.is_refused
            and self.is_stored is not True
            and self.part.is_refused
        )


class TornUpload(NamedTuple):
    """PutObject whose connection is closed within the body."""

    sent: int
    """Bytes of the body that were sent."""
    is_stored: bool | None
    """Whether there is an object afterwards; None: unknown."""


class Removal(NamedTuple):
    """Removal of all that was written."""

    removed: int
    left: int
    """Objects that S3 did not remove."""
    error: str
    """S3's code, or ours; empty if none is left."""
    command: str
    """Command that removes what is left."""


@dataclass(slots=True)
class Observations:
    """Responses of a server; None or empty: not asked."""

    write: Response = NOT_ASKED
    """PutObject with all options of the destination."""
    refused_options: Sequence[str] | None = None
    """Options with each of which alone the server refuses to write, if it refused them together."""
    found_again: Response = NOT_ASKED
    """The same write again, which must find its object."""
    write_parts: Response = NOT_ASKED
    """The same in parts of one size, with the last one smaller."""
    unequal_parts: Response = NOT_ASKED
    put_new: Response = NOT_ASKED
    """PutObject with `If-None-Match: *` of a key that does not exist."""
    put_existing: Response = NOT_ASKED
    complete_new: Response = NOT_ASKED
    """CompleteMultipartUpload with `If-None-Match: *` of a key that does not exist."""
    complete_existing: Response = NOT_ASKED
    put_races: Sequence[Race] | None = None
    complete_races: Sequence[Race] | None = None
    checksums: Mapping[str, ChecksumTrial] = field(default_factory=dict)
    """By algorithm."""
    torn_uploads: Sequence[TornUpload] | None = None
    head_existing: Response = NOT_ASKED
    head_missing: Response = NOT_ASKED
    abort: Response = NOT_ASKED
    has_survived_abort: bool | None = None
    """Whether an object is still there after an upload of the same key was aborted."""
    stored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of HeadObject, by the way of writing."""
    stored_tags: Mapping[str, str] | None = None
    stored_grants: Sequence[tuple[str | None, str]] | None = None
    """Group and permission of each grant of the object's ACL."""
    wrong_owner: Response = NOT_ASKED
    """PutObject with an `expected_bucket_owner` who does not own the bucket."""
    removal: Removal | None = None


def verdicts(destination: Destination, seen: Observations) -> list[Verdict]:
    """Return the verdict on each question that is asked of this destination.

    Args:
        destination: The destination; its settings decide which faults count.
        seen: The responses.
    """
    found = [_write(seen)]
    if seen.write.is_done:
        found += _of_writes(destination, seen)
    if seen.removal is not None:
        found.append(_removal(seen.removal))
    return found


def _of_writes(destination: Destination, seen: Observations) -> list[Verdict]:
    """Return the verdicts on a server that can be written."""
    return [
        _done(
            "found-again",
            seen.found_again,
            "the same write again finds its object",
            "the same write again",
            "a window whose response was lost is never recognized as delivered, and is given up",
        ),
        _done(
            "write-in-parts",
            seen.write_parts,
            "an object is written in parts of one size",
            "in parts",
            "no object of more than 8 MiB is ever delivered",
        ),
        _conditional(destination, "conditional-put", seen.put_new, seen.put_existing),
        _conditional(
            destination, "conditional-complete", seen.complete_new, seen.complete_existing
        ),
        _concurrent(destination, "concurrent-puts", seen.put_existing, seen.put_races),
        _concurrent(
            destination, "concurrent-completes", seen.complete_existing, seen.complete_races
        ),
        *_checksums(destination, seen.checksums),
        _torn_upload(destination, seen),
        _part_sizes(seen.unequal_parts),
        _head(destination, seen.head_existing, seen.head_missing),
        _abort(seen),
        *_options(destination, seen),
    ]


def _unknown(
    question: str, why: str = "not asked: an earlier request failed, or the time was up"
) -> Verdict:
    return Verdict(question, Result.UNKNOWN, why)


def _unanswered(question: str, *responses: Response) -> Verdict | None:
    """Return the verdict if a response is missing; None if none is."""
    for response in responses:
        if response.kind is Kind.NOT_ASKED:
            return _unknown(question)
        if response.kind is Kind.SILENT:
            return _unknown(question, f"no response ({response.code})")
    return None


def _write(seen: Observations) -> Verdict:
    question, response = "write", seen.write
    if missing := _unanswered(question, response):
        return missing
    if response.is_done:
        return Verdict(question, Result.PASSED, "an object is written with all options")
    options = ", ".join(seen.refused_options or ())
    return Verdict(
        question,
        Result.FAILED,
        f"PutObject: {response.code}" + (f", because of {options}" if options else ""),
        "no object is ever delivered",
        f"change or remove {options}" if options else None,
    )


def _done(question: str, response: Response, passed: str, request: str, meaning: str) -> Verdict:
    """Return whether a request is done, where every refusal of it means the same."""
    if missing := _unanswered(question, response):
        return missing
    if response.is_done:
        return Verdict(question, Result.PASSED, passed)
    return Verdict(question, Result.FAILED, f"{request}: {response.code}", meaning)


def _conditional(
    destination: Destination, question: str, new: Response, existing: Response
) -> Verdict:
    """Return whether a server writes under `If-None-Match: *` once, and not a second time."""
    if missing := _unanswered(question, new):
        return missing
    fault = None
    if not new.is_done:
        fault = f"If-None-Match is refused: {new.code}", "no object is ever delivered with it"
    elif missing := _unanswered(question, existing):
        return missing
    elif existing.is_done:
        found = "If-None-Match is ignored: an existing object is overwritten"
        fault = found, "an object can be written twice, and its bytes can change after its receipt"
    elif existing.kind is not Kind.EXISTS:
        fault = (
            f"an existing object: {existing.code} instead of 412",
            "a delivered window is not recognized, and is given up",
        )
    if fault is None:
        found = "an existing object is spared (412)"
        if destination.conditional_writes:
            return Verdict(question, Result.PASSED, found)
        return Verdict(question, Result.NOTED, f"{found}; {UNCONDITIONAL} is not needed")
    found, meaning = fault
    if destination.conditional_writes:
        return Verdict(question, Result.FAILED, found, meaning, UNCONDITIONAL)
    return Verdict(question, Result.NOTED, f"{found}; {UNCONDITIONAL} takes account of it")


def _concurrent(
    destination: Destination,
    question: str,
    existing: Response,
    races: Sequence[Race] | None,
) -> Verdict:
    """Return whether of several writers of one key exactly one is let through."""
    if existing.kind in {Kind.DONE, Kind.REFUSED}:
        return _unknown(question, "not asked: the condition has no effect")
    if not races:
        return _unknown(question)
    twice = sum(race.written > 1 for race in races)
    keys = counted(len(races), "key")
    if twice:
        result = Result.FAILED if destination.conditional_writes else Result.NOTED
        return Verdict(
            question,
            result,
            f"{twice} of {keys} written more than once by writers at the same time",
            "two workers that write an object at the same moment, as after a rebalance, both "
            "succeed: the lines are the same, but the object's bytes can change after its receipt",
        )
    failed = sum(race.failed for race in races)
    if failed:
        return _unknown(question, f"{counted(failed, 'write')} of {keys} failed otherwise")
    return Verdict(question, Result.PASSED, f"{keys}: none written more than once")


def _checksums(destination: Destination, trials: Mapping[str, ChecksumTrial]) -> Iterator[Verdict]:
    """Return whether the destination's checksum is verified, of an object and of a part."""
    name = destination.checksum
    meaning = (
        "an upload that is damaged on the way is stored, and the next attempt takes it for "
        "delivered"
    )
    trial = trials.get(name)
    put, part = "checksum-put", "checksum-part"
    if trial is None:
        yield from (_unknown(put), _unknown(part))
        return
    setting = _verified_checksum(trials)
    for question, wrong, is_stored in (
        (put, trial.wrong, trial.is_stored),
        (part, trial.part, None),
    ):
        if missing := _unanswered(question, wrong):
            yield missing
        elif wrong.is_done:
            yield Verdict(question, Result.FAILED, f"a wrong {name} is accepted", meaning, setting)
        elif is_stored:
            found = f"a wrong {name} is refused ({wrong.code}), and the object is stored"
            yield Verdict(question, Result.FAILED, found, meaning, setting)
        else:
            yield Verdict(question, Result.PASSED, f"a wrong {name} is refused: {wrong.code}")


def _verified_checksum(trials: Mapping[str, ChecksumTrial]) -> str | None:
    """Return the setting of the strongest checksum that the server verifies everywhere."""
    for name in ALGORITHMS:
        if name in trials and trials[name].is_verified:
            return f'checksum = "{name}"'
    return None


def _torn_upload(destination: Destination, seen: Observations) -> Verdict:
    question = "torn-upload"
    if not seen.torn_uploads:
        return _unknown(question)
    stored = [torn.sent for torn in seen.torn_uploads if torn.is_stored]
    if stored:
        trial = seen.checksums.get(destination.checksum)
        is_verified = trial is not None and trial.is_verified
        return Verdict(
            question,
            Result.FAILED,
            f"an upload that was cut after {counted(stored[0], 'byte')} is stored",
            "the next attempt takes an incomplete object for delivered: events are lost",
            None if is_verified else _verified_checksum(seen.checksums),
        )
    if any(torn.is_stored is None for torn in seen.torn_uploads):
        return _unknown(question, "whether an object is there cannot be seen")
    return Verdict(question, Result.PASSED, "an upload that is cut leaves no object")


def _part_sizes(unequal: Response) -> Verdict:
    question = "part-sizes"
    if missing := _unanswered(question, unequal):
        return missing
    found = "parts can differ in size"
    if not unequal.is_done:
        found = f"parts of different sizes are refused ({unequal.code}); a worker's have one size"
    return Verdict(question, Result.NOTED, found)


def _head(destination: Destination, existing: Response, absent: Response) -> Verdict:
    """Return what HeadObject shows of a key that exists and of one that does not."""
    question = "head"
    if missing := _unanswered(question, existing, absent):
        return missing
    if absent.is_done:
        return Verdict(
            question,
            Result.FAILED,
            "a key that does not exist is shown as an object",
            "an object that was never written counts as delivered: events are lost",
        )
    if existing.is_done:
        found = f"an object is shown, a missing key: {absent.code}"
        return Verdict(question, Result.PASSED, found)
    if existing.kind is Kind.MISSING:
        return Verdict(
            question,
            Result.FAILED,
            f"an object that was written is not shown: {existing.code}",
            "an object that was found under its key counts as vanished, and its window waits",
        )
    found = f"HeadObject of an object: {existing.code}; a worker cannot compare it"
    if destination.conditional_writes:
        return Verdict(question, Result.NOTED, found)
    return Verdict(
        question,
        Result.FAILED,
        found,
        f"with {UNCONDITIONAL} every attempt writes the object again",
        "allow s3:GetObject and s3:ListBucket",
    )


def _abort(seen: Observations) -> Verdict:
    question, abort, has_survived = "abort", seen.abort, seen.has_survived_abort
    if missing := _unanswered(question, abort):
        return missing
    if not abort.is_done:
        return Verdict(
            question,
            Result.FAILED,
            f"AbortMultipartUpload: {abort.code}",
            "uploads that are given up stay, and take space",
        )
    if has_survived is None:
        return _unknown(question, "whether the object is still there cannot be seen")
    if not has_survived:
        return Verdict(
            question,
            Result.FAILED,
            "aborting an upload removes the finished object of the same key",
            "an object whose response was lost can vanish after its receipt: events are lost",
        )
    return Verdict(question, Result.PASSED, "an abort spares the object of the same key")


def _options(destination: Destination, seen: Observations) -> Iterator[Verdict]:
    """Return for each option of the destination whether the server keeps it."""
    for option, name in _FIELDS.items():
        is_type = option == "content_type"
        value = content_type_of(destination) if is_type else getattr(destination, option)
        if value is not None:
            yield _kept(option, value, {way: it.get(name) for way, it in seen.stored.items()})
    if destination.kms_key_id is not None:
        keys = {way: it.get("SSEKMSKeyId") for way, it in seen.stored.items()}
        yield _kept("kms_key_id", destination.kms_key_id, keys)
    if destination.tags is not None:
        yield _tags(dict(destination.tags), seen)
    if destination.acl is not None:
        yield _acl(destination.acl, seen)
    if destination.expected_bucket_owner is not None:
        yield _owner(seen.wrong_owner)


def _kept(option: str, value: str, stored: Mapping[str, str | None]) -> Verdict:
    """Return whether an option is among what the server shows, of each way of writing."""
    if not stored:
        return _unknown(option, "needs HeadObject")
    for way, found in stored.items():
        if not _is_kept(option, value, found):
            shown = "nothing" if found is None else found
            return _dropped(option, f"{value} was sent for {way}, and {shown} is kept")
    return Verdict(option, Result.PASSED, f"{value} is kept")


def _is_kept(option: str, value: str, found: str | None) -> bool:
    if option == "storage_class":
        return (found or _STANDARD) == value
    if option == "kms_key_id" and "alias/" in value:
        return bool(found)  # S3 shows the key behind the alias
    if option == "kms_key_id":
        return (found or "").rpartition("/")[2] == value.rpartition("/")[2]
    return found == value


def _dropped(option: str, found: str) -> Verdict:
    meaning = "S3 confirms each object, and drops this option without an error"
    return Verdict(option, Result.FAILED, found, meaning, f"remove {option}")


def _tags(sent: Mapping[str, str], seen: Observations) -> Verdict:
    if seen.stored_tags is None:
        return _unknown("tags", "needs s3:GetObjectTagging")
    for name, value in sent.items():
        found = seen.stored_tags.get(name)
        if found != value:
            shown = "nothing" if found is None else f"'{found}'"
            return _dropped("tags", f"{name} was sent as '{value}', and {shown} is kept")
    return Verdict("tags", Result.PASSED, "all tags are kept")


def _acl(acl: str, seen: Observations) -> Verdict:
    if acl not in _ACL_GRANTS:
        return _unknown("acl", f"{acl} cannot be recognized from outside")
    if seen.stored_grants is None:
        return _unknown("acl", "needs s3:GetObjectAcl")
    if _ACL_GRANTS[acl] not in seen.stored_grants:
        return _dropped("acl", f"{acl} was sent, and its grant is not kept")
    return Verdict("acl", Result.PASSED, f"{acl} is kept")


def _owner(response: Response) -> Verdict:
    question = "expected_bucket_owner"
    if missing := _unanswered(question, response):
        return missing
    if response.is_done:
        return Verdict(
            question,
            Result.FAILED,
            "a write for another owner's bucket is accepted",
            "a bucket of the same name in a foreign account would get the objects",
            f"remove {question}",
        )
    return Verdict(question, Result.PASSED, f"another owner is refused: {response.code}")


def _removal(removal: Removal) -> Verdict:
    removed = f"{counted(removal.removed, 'object')} removed"
    if not removal.left:
        return Verdict("removal", Result.PASSED, removed)
    return Verdict(
        "removal",
        Result.NOTED,
        f"{removed}, {removal.left} left ({removal.error}); remove them with: {removal.command}",
    )
