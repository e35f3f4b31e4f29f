"""Large objects, which go in parts: what stands there afterwards, and what is left when it fails.

A real S3 server for what is stored; one of our own for what a real one does not do on demand.
"""

import asyncio
import base64
import hashlib
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.core.object_body import PART_BYTES, PARTS_MAX
from stream_app.core.receipt import Stored
from stream_app.embedded.servers import S3Server
from stream_app.errors import DeliveryError, PermanentError, TransientError, UploadGoneError
from stream_app.s3.body import HASH_IN_LOOP_BYTES_MAX, MULTIPART_BYTES, parts
from stream_app.s3.multipart import PARTS_AT_ONCE_MAX, Multipart
from stream_app.s3.storage import Storage
from tests.contract.recorder import Answer, Request, answer, close, hang, recorder, refusal, reset

KEY = "test/2026/11/24/16/2026-11-24-16-31-02-0123.gz"
PATIENCE_SECONDS = 3.0
"""For a part that is never answered, and that the server has to see before."""
SMALL = random.Random(2).randbytes(MULTIPART_BYTES)
LARGE = random.Random(3).randbytes(5 * PART_BYTES + 1)
CHECKSUM = base64.b64encode(hashlib.sha256(LARGE).digest()).decode()
LINES, SIZE = 27, 4096

_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def using(endpoint_url: str, work: Callable[[Storage], Awaitable[_T]]) -> _T:
    async def opened() -> _T:
        async with Storage(S3(endpoint_url=endpoint_url)) as storage:
            return await work(storage)

    return asyncio.run(opened())


def put(s3: S3Server, destination: Destination, content: bytes = LARGE) -> Stored:
    return using(
        s3.endpoint_url,
        lambda storage: storage.put(destination, KEY, content, lines=LINES, size=SIZE),
    )


def call(s3: S3Server, bucket: str, operation: str, **arguments: Any) -> Any:
    return using(
        s3.endpoint_url,
        lambda storage: storage.clients.call(Destination("d", bucket), operation, **arguments),
    )


def look(s3: S3Server, bucket: str) -> bytes:
    async def get(storage: Storage) -> bytes:
        answer = await storage.clients.call(Destination("d", bucket), "get_object", Key=KEY)
        async with answer["Body"] as body:
            found: bytes = await body.read()
        return found

    return using(s3.endpoint_url, get)


def unfinished(s3: S3Server, bucket: str) -> list[Any]:
    uploads: list[Any] = call(s3, bucket, "list_multipart_uploads").get("Uploads", [])
    return uploads


# --- a real server --------------------------------------------------------------------------------


def test_large_object_stands_there_with_its_bytes_and_counts(s3: S3Server, bucket: str) -> None:
    result = put(s3, Destination("d", bucket))
    assert look(s3, bucket) == LARGE
    head = call(s3, bucket, "head_object", Key=KEY)
    assert head["ContentType"] == "application/gzip"
    assert head["Metadata"] == {"lines": str(LINES), "uncompressed-size": str(SIZE)}
    assert head["ETag"] == f'"{result.etag}"'
    assert (result.size, result.checksum, result.already_existed) == (len(LARGE), CHECKSUM, False)
    assert unfinished(s3, bucket) == []


def test_object_went_in_parts_only_beyond_the_threshold(s3: S3Server, bucket: str) -> None:
    small = put(s3, Destination("d", bucket), SMALL)
    assert small.etag == hashlib.md5(SMALL, usedforsecurity=False).hexdigest()
    assert look(s3, bucket) == SMALL
    assert put(s3, Destination("d", bucket), SMALL).already_existed


@pytest.mark.parametrize("algorithm", ["sha256", "crc32", "md5"])
def test_large_object_that_is_there_already_is_found(
    s3: S3Server, bucket: str, algorithm: Any
) -> None:
    destination = Destination("d", bucket, checksum=algorithm)
    first, second = put(s3, destination), put(s3, destination)
    assert (first.already_existed, second.already_existed) == (False, True)
    assert second.etag == first.etag
    assert unfinished(s3, bucket) == []


def test_other_object_under_the_key_stays_and_nothing_is_left(s3: S3Server, bucket: str) -> None:
    call(s3, bucket, "put_object", Key=KEY, Body=b"another one")
    with pytest.raises(PermanentError) as refused:
        put(s3, Destination("d", bucket))
    assert refused.value.code == "ObjectDiffers"
    assert look(s3, bucket) == b"another one"
    assert unfinished(s3, bucket) == []


def test_of_two_at_once_one_finds_the_other(s3: S3Server, bucket: str) -> None:
    async def both(storage: Storage) -> list[Stored]:
        destination = Destination("d", bucket)
        puts = (storage.put(destination, KEY, LARGE, lines=LINES, size=SIZE) for _ in range(2))
        return await asyncio.gather(*puts)

    results = using(s3.endpoint_url, both)
    assert sorted(it.already_existed for it in results) == [False, True]
    assert look(s3, bucket) == LARGE


def test_missing_bucket_is_permanent(s3: S3Server, bucket: str) -> None:
    with pytest.raises(PermanentError) as refused:
        put(s3, Destination("d", f"{bucket}-not"))
    assert refused.value.code == "NoSuchBucket"


# --- parts that leave one by one, a real server ---------------------------------------------------

PIECES = [LARGE[:PART_BYTES], LARGE[PART_BYTES : 2 * PART_BYTES], b"the end"]
WHOLE = b"".join(PIECES)


@dataclass
class Streamed:
    """An object on its way, in pieces."""

    storage: Storage
    destination: Destination
    upload_id: str = ""
    entries: dict[int, Any] = field(default_factory=dict)

    async def begin(self) -> "Streamed":
        self.upload_id = await self.storage.begin(self.destination, KEY)
        return self

    async def send(self, *numbers: int) -> None:
        parts = [(number, PIECES[number - 1]) for number in numbers]
        await self.storage.send(
            self.destination, KEY, self.upload_id, parts, self.entries.__setitem__
        )

    async def complete(self) -> Stored:
        return await self.storage.complete(
            self.destination,
            KEY,
            self.upload_id,
            [self.entries[number] for number in sorted(self.entries)],
            lines=LINES,
            size=SIZE,
            size_compressed=len(WHOLE),
            sha256="the digest",
        )

    async def all(self) -> Stored:
        await self.begin()
        await self.send(1)
        await self.send(2, 3)
        return await self.complete()


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("algorithm", ["sha256", "crc32", "md5"])
def test_object_of_parts_that_left_one_by_one_is_there_once(
    s3: S3Server, bucket: str, algorithm: Any, *, conditional: bool
) -> None:
    destination = Destination("d", bucket, checksum=algorithm, conditional_writes=conditional)

    async def twice(storage: Storage) -> list[Stored]:
        return [await Streamed(storage, destination).all() for _ in range(2)]

    first, second = using(s3.endpoint_url, twice)
    assert look(s3, bucket) == WHOLE
    assert (first.already_existed, second.already_existed) == (False, True)
    assert (second.etag, second.size, second.checksum) == (first.etag, len(WHOLE), "the digest")
    assert unfinished(s3, bucket) == []


def test_options_of_the_destination_hold_for_parts_that_left_one_by_one(
    s3: S3Server, bucket: str
) -> None:
    tags = (("team", "orders & co"),)
    destination = Destination("d", bucket, content_type="application/x-ndjson", tags=tags)
    using(s3.endpoint_url, lambda storage: Streamed(storage, destination).all())
    head = call(s3, bucket, "head_object", Key=KEY)
    assert head["ContentType"] == "application/x-ndjson"
    tagging = call(s3, bucket, "get_object_tagging", Key=KEY)
    assert tagging["TagSet"] == [{"Key": "team", "Value": "orders & co"}]


def test_nothing_is_visible_before_the_end(s3: S3Server, bucket: str) -> None:
    async def send(storage: Storage) -> None:
        await (await Streamed(storage, Destination("d", bucket)).begin()).send(1, 2, 3)

    using(s3.endpoint_url, send)
    assert call(s3, bucket, "list_objects_v2").get("Contents", []) == []
    assert len(unfinished(s3, bucket)) == 1


@pytest.mark.parametrize("last", [False, True])
def test_upload_that_was_aborted_is_recognized(s3: S3Server, bucket: str, *, last: bool) -> None:
    async def lose(storage: Storage) -> None:
        streamed = await Streamed(storage, Destination("d", bucket)).begin()
        await streamed.send(1)
        await storage.abort_upload(streamed.destination, KEY, streamed.upload_id)
        await (streamed.complete() if last else streamed.send(2))

    with pytest.raises(UploadGoneError, match=re.escape(f"{bucket}/{KEY} are gone")):
        using(s3.endpoint_url, lose)


def test_last_request_made_again_finds_the_object(s3: S3Server, bucket: str) -> None:
    # Its first answer was lost.
    async def again(storage: Storage) -> Stored:
        streamed = Streamed(storage, Destination("d", bucket))
        await streamed.all()
        return await streamed.complete()

    assert using(s3.endpoint_url, again).already_existed


def test_other_object_under_the_key_of_parts_stays(s3: S3Server, bucket: str) -> None:
    call(s3, bucket, "put_object", Key=KEY, Body=b"another one")
    with pytest.raises(PermanentError) as refused:
        using(s3.endpoint_url, lambda it: Streamed(it, Destination("d", bucket)).all())
    assert refused.value.code == "ObjectDiffers"
    assert look(s3, bucket) == b"another one"


# --- a server of our own --------------------------------------------------------------------------

CREATE, PART, COMPLETE, ABORT, HEAD = "create", "part", "complete", "abort", "head"
ANSWERS: dict[str, Answer] = {
    CREATE: answer(
        "200 OK",
        "<InitiateMultipartUploadResult><UploadId>the-id</UploadId>"
        "</InitiateMultipartUploadResult>",
    ),
    PART: answer("200 OK", ETag='"part"'),
    COMPLETE: answer(
        "200 OK",
        "<CompleteMultipartUploadResult><ETag>&quot;whole-6&quot;</ETag>"
        "</CompleteMultipartUploadResult>",
        x_amz_version_id="v1",
    ),
    ABORT: answer("204 No Content"),
    HEAD: answer("403 Forbidden"),
}
TO = Destination("d", "my-bucket")


def operation(request: Request) -> str:
    if request.method == "POST":
        return CREATE if request.target.endswith("?uploads") else COMPLETE
    return {"PUT": PART, "DELETE": ABORT, "HEAD": HEAD}[request.method]


@dataclass
class Server:
    """Responds to each operation by its answers in turn, the last one for ever."""

    endpoint_url: str
    answers: dict[str, list[Answer]]
    requests: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        name = operation(request)
        self.requests.append(request)
        answers = self.answers.get(name, [ANSWERS[name]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    @property
    def operations(self) -> list[str]:
        return [operation(it) for it in self.requests]


def against(
    work: Callable[[Storage, Server], Awaitable[_T]], **answers: list[Answer]
) -> tuple[_T, Server]:
    async def scenario() -> tuple[_T, Server]:
        async with recorder() as listening:
            server = listening.answers = Server(listening.endpoint_url, answers)
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                result = await work(storage, server)
        return result, server

    return asyncio.run(scenario())


async def stored(storage: Storage, server: Server) -> Stored | DeliveryError:
    del server
    try:
        return await storage.put(TO, KEY, LARGE, lines=LINES, size=SIZE)
    except DeliveryError as error:
        return error


def test_order_is_create_then_parts_then_complete() -> None:
    result, server = against(stored)
    assert server.operations == [CREATE, *[PART] * 6, COMPLETE]
    assert isinstance(result, Stored)
    assert result == Stored(
        *(len(LARGE), "whole-6", "v1", CHECKSUM),
        already_existed=False,
        stored_at=result.stored_at,
    )


def test_parts_are_the_content_in_order() -> None:
    _, server = against(stored)
    sent = {}
    for request in server.requests:
        if operation(request) == PART:
            number = int(request.target.partition("partNumber=")[2].partition("&")[0])
            sent[number] = request.body
    assert [len(sent[number]) for number in sorted(sent)] == [PART_BYTES] * 5 + [1]
    assert b"".join(sent[number] for number in sorted(sent)) == LARGE


def test_condition_is_on_the_last_request() -> None:
    _, server = against(stored)
    assert [it.headers.get("if-none-match") for it in server.requests] == [None] * 7 + ["*"]


def test_last_request_names_each_part_with_etag_and_checksum() -> None:
    _, server = against(stored)
    body = server.requests[-1].body.decode()
    assert body.count("<ETag>") == body.count("<ChecksumSHA256>") == 6
    numbers = [int(it.partition("<")[0]) for it in body.split("<PartNumber>")[1:]]
    assert numbers == [1, 2, 3, 4, 5, 6]


FAILURES = {
    "500": (refusal("500 Internal Server Error", "InternalError"), "InternalError"),
    "slow down": (refusal("503 Service Unavailable", "SlowDown"), "SlowDown"),
    "reset": (reset, "ConnectionClosedError"),
    "damaged": (refusal("400 Bad Request", "BadDigest"), "BadDigest"),
    "no etag": (answer("200 OK", "<html>Welcome</html>", "text/html"), "UnreadableAnswer"),
    "gone": (refusal("404 Not Found", "NoSuchUpload"), "NoSuchUpload"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", [PART, COMPLETE])
def test_fault_that_time_heals_is_transient_and_the_upload_is_aborted(
    name: str, failure: str
) -> None:
    response, code = FAILURES[failure]
    error, server = against(stored, **{name: [response]})
    assert isinstance(error, TransientError)
    assert error.code == code
    assert server.operations[-1] == ABORT
    assert server.operations.count(ABORT) == 1
    assert (COMPLETE in server.operations) == (name == COMPLETE)


def test_refusal_of_a_part_is_permanent_and_the_upload_is_aborted() -> None:
    error, server = against(stored, part=[ANSWERS[PART], refusal("403 Forbidden", "AccessDenied")])
    assert isinstance(error, PermanentError)
    assert error.code == "AccessDenied"
    assert server.operations[-1] == ABORT


def test_refusal_to_create_leaves_nothing_to_abort() -> None:
    error, server = against(stored, create=[refusal("403 Forbidden", "AccessDenied")])
    assert isinstance(error, PermanentError)
    assert server.operations == [CREATE]


def test_error_within_an_answer_200_is_an_error() -> None:
    error, server = against(stored, complete=[refusal("200 OK", "InternalError")])
    assert isinstance(error, TransientError)
    assert error.code == "InternalError"
    assert server.operations[-1] == ABORT


@pytest.mark.parametrize(
    "exists",
    [
        refusal("412 Precondition Failed", "PreconditionFailed"),
        refusal("200 OK", "PreconditionFailed"),
    ],
)
def test_object_that_is_there_is_looked_at_and_the_upload_is_aborted(exists: bytes) -> None:
    result, server = against(stored, complete=[exists])
    assert isinstance(result, Stored)
    assert result.already_existed
    assert server.operations[-3:] == [COMPLETE, ABORT, HEAD]


def test_object_that_the_abort_removes_is_built_anew() -> None:
    # S3Mock does so: the object of the key goes with the upload.
    there = b"HTTP/1.1 200 OK\r\nx-amz-meta-written: in-parts\r\nContent-Length: 9\r\n\r\n"

    async def vanish(storage: Storage, server: Server) -> None:
        with pytest.raises(UploadGoneError, match="existed and is gone") as gone:
            await Streamed(storage, TO).all()
        assert gone.value.code == "ObjectVanished"
        server.answers[HEAD] = [there]
        assert (await Streamed(storage, TO).all()).already_existed

    exists = refusal("412 Precondition Failed", "PreconditionFailed")
    _, server = against(vanish, complete=[exists], head=[there, answer("404 Not Found")])
    once = [CREATE, *[PART] * 3, COMPLETE, HEAD, ABORT, HEAD]
    assert server.operations == [*once, *once]


@pytest.mark.parametrize(
    "answers",
    [
        [refusal("409 Conflict", "ConditionalRequestConflict"), ANSWERS[COMPLETE]],
        [refusal("400 Bad Request", "InvalidPart"), ANSWERS[COMPLETE]],
    ],
)
def test_next_attempt_sends_every_part_again(answers: list[Answer]) -> None:
    async def twice(storage: Storage, server: Server) -> Stored | DeliveryError:
        first = await stored(storage, server)
        assert isinstance(first, TransientError)
        return await stored(storage, server)

    result, server = against(twice, complete=answers)
    assert isinstance(result, Stored)
    once = [CREATE, *[PART] * 6, COMPLETE]
    assert server.operations == [*once, ABORT, *once]


def test_answer_that_is_lost_after_success_ends_in_one_object() -> None:
    async def twice(storage: Storage, server: Server) -> Stored | DeliveryError:
        first = await stored(storage, server)
        assert isinstance(first, TransientError)
        return await stored(storage, server)

    exists = refusal("412 Precondition Failed", "PreconditionFailed")
    result, server = against(twice, complete=[reset, exists])
    assert isinstance(result, Stored)
    assert result.already_existed
    assert server.operations.count(ABORT) == 2


def test_part_whose_connection_was_stale_is_sent_whole_again() -> None:
    result, server = against(stored, part=[ANSWERS[PART], close, ANSWERS[PART]])
    assert isinstance(result, Stored)
    sent = [it for it in server.requests if operation(it) == PART]
    assert len(sent) == 7
    assert {len(it.body) for it in sent} == {PART_BYTES, 1}


def test_parts_at_a_time_are_bounded() -> None:
    waiting = 0
    full, too_many = asyncio.Event(), asyncio.Event()

    async def together(writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == PARTS_AT_ONCE_MAX:
            full.set()
        elif waiting > PARTS_AT_ONCE_MAX:
            too_many.set()
        await full.wait()
        waiting -= 1
        writer.write(
            b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        )
        await writer.drain()

    result, _ = against(stored, part=[*[together] * PARTS_AT_ONCE_MAX, ANSWERS[PART]])
    assert isinstance(result, Stored)
    assert full.is_set()
    assert not too_many.is_set()


def test_cancelled_upload_ends_at_once_and_is_aborted_behind() -> None:
    async def cancelled(storage: Storage, server: Server) -> float:
        loop = asyncio.get_running_loop()
        put = asyncio.create_task(storage.put(TO, KEY, LARGE, lines=LINES, size=SIZE))
        await hanging.wait()
        put.cancel()
        began = loop.time()
        await asyncio.wait([put])
        assert put.cancelled()
        assert ABORT not in server.operations
        return loop.time() - began

    async def hang_loudly(writer: asyncio.StreamWriter) -> None:
        hanging.set()
        await hang(writer)

    hanging = asyncio.Event()
    seconds, server = against(cancelled, part=[hang_loudly])
    assert seconds < 1
    assert server.operations[-1] == ABORT
    assert COMPLETE not in server.operations


def test_upload_whose_name_came_after_it_was_cancelled_is_aborted_too() -> None:
    async def cancelled(storage: Storage, server: Server) -> None:
        begin = asyncio.create_task(storage.begin(TO, KEY))
        await requested.wait()
        begin.cancel()
        await asyncio.wait([begin])
        assert begin.cancelled()
        assert ABORT not in server.operations
        answering.set()

    async def answer_late(writer: asyncio.StreamWriter) -> None:
        requested.set()
        await answering.wait()
        writer.write(ANSWERS[CREATE])
        await writer.drain()

    requested, answering = asyncio.Event(), asyncio.Event()
    _, server = against(cancelled, create=[answer_late])
    assert server.operations == [CREATE, ABORT]


def test_abort_that_fails_is_logged_and_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    denied = refusal("403 Forbidden", "AccessDenied")
    error, _ = against(stored, complete=[refusal("503 Slow", "SlowDown")], abort=[denied])
    assert isinstance(error, TransientError)
    assert error.code == "SlowDown"
    (message,) = caplog.messages
    assert message.startswith(
        f"upload the-id of s3://my-bucket/{KEY} is not aborted: AccessDenied: in words; its parts "
        "stay until"
    )


def test_abort_without_a_response_is_awaited_only_so_long(caplog: pytest.LogCaptureFixture) -> None:
    async def impatient(storage: Storage, server: Server) -> Stored | DeliveryError:
        storage._multipart = Multipart(storage.clients, storage.encryption, abort_seconds_max=0.3)
        return await stored(storage, server)

    error, _ = against(impatient, complete=[refusal("503 Slow", "SlowDown")], abort=[hang])
    assert isinstance(error, TransientError)
    assert "is not aborted: TimeoutError: no response within 0.3 s" in caplog.text


def test_without_condition_the_key_is_looked_at_first() -> None:
    async def unconditional(storage: Storage, server: Server) -> Stored:
        del server
        destination = replace(TO, conditional_writes=False)
        return await storage.put(destination, KEY, LARGE, lines=LINES, size=SIZE)

    _, server = against(unconditional)
    assert server.operations == [HEAD, CREATE, *[PART] * 6, COMPLETE]
    assert not any("if-none-match" in it.headers for it in server.requests)


@pytest.mark.parametrize("failure", [hang, reset, refusal("503 Slow", "SlowDown")])
def test_part_that_fails_raises_and_is_sent_again_alone(failure: Answer) -> None:
    async def send(storage: Storage, server: Server) -> None:
        usual = storage.clients.response_seconds_max
        streamed = await Streamed(storage, TO).begin()
        streamed.upload_id = "the-id"
        for number, content in enumerate([b"one", b"two", b"three"], start=1):
            part = [(number, content)]
            is_unanswered = failure is hang and number == 2
            storage.clients.response_seconds_max = PATIENCE_SECONDS if is_unanswered else usual
            try:
                await storage.send(TO, KEY, "the-id", part, streamed.entries.__setitem__)
            except TransientError:
                storage.clients.response_seconds_max = usual
                await storage.send(TO, KEY, "the-id", part, streamed.entries.__setitem__)
        assert sorted(streamed.entries) == [1, 2, 3]
        await streamed.complete()
        assert ABORT not in server.operations

    _, server = against(send, part=[ANSWERS[PART], failure, ANSWERS[PART]])
    assert server.operations == [CREATE, *[PART] * 4, COMPLETE]
    assert [it.body for it in server.requests][1:5] == [b"one", b"two", b"two", b"three"]


# --- cutting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"),
    [(PART_BYTES, 1), (PART_BYTES + 1, 2), (3 * PART_BYTES, 3)],
)
def test_parts_have_at_least_their_least_size(size: int, count: int) -> None:
    pieces = parts(bytes(size))
    assert len(pieces) == count
    assert sum(map(len, pieces)) == size
    assert all(len(it) == PART_BYTES for it in pieces[:-1])


def test_parts_grow_when_there_would_be_too_many() -> None:
    pieces = parts(bytes(range(256)) * 100, size_min=1)
    assert len(pieces) <= PARTS_MAX
    assert b"".join(pieces) == bytes(range(256)) * 100


def test_thresholds_are_in_order() -> None:
    assert HASH_IN_LOOP_BYTES_MAX < PART_BYTES < MULTIPART_BYTES
