from dataclasses import replace
from typing import Any

import pytest

from stream_app.config.settings import Destination
from stream_app.s3.conformance_verdict import (
    NOT_ASKED,
    ChecksumTrial,
    Kind,
    Observations,
    Race,
    Removal,
    Response,
    Result,
    TornUpload,
    Verdict,
    verdicts,
)

PLAIN = Destination(id="a", bucket="my-bucket")
UNCONDITIONAL = replace(PLAIN, conditional_writes=False)
DONE = Response()
EXISTS = Response(Kind.EXISTS, "PreconditionFailed")
MISSING = Response(Kind.MISSING, "404")
REFUSED = Response(Kind.REFUSED, "NotImplemented")
DENIED = Response(Kind.REFUSED, "AccessDenied")
SILENT = Response(Kind.SILENT, "ConnectTimeoutError")
VERIFIED = ChecksumTrial(DONE, REFUSED, is_stored=False, part=REFUSED)
UNVERIFIED = ChecksumTrial(DONE, DONE, is_stored=True, part=DONE)
ONCE = Race(written=1, failed=0)


def conforming(**seen: Any) -> Observations:
    """Observations of a server that does all that S3 does, but for those given."""
    whole = {
        "write": DONE,
        "found_again": DONE,
        "write_parts": DONE,
        "unequal_parts": DONE,
        "put_new": DONE,
        "put_existing": EXISTS,
        "complete_new": DONE,
        "complete_existing": EXISTS,
        "put_races": [ONCE, ONCE],
        "complete_races": [ONCE],
        "checksums": dict.fromkeys(("sha256", "crc32", "md5"), VERIFIED),
        "torn_uploads": [TornUpload(1, is_stored=False)],
        "head_existing": DONE,
        "head_missing": MISSING,
        "abort": DONE,
        "has_survived_abort": True,
        "stored": {
            "PutObject": {"ContentType": "application/gzip"},
            "CompleteMultipartUpload": {"ContentType": "application/gzip"},
        },
    }
    return Observations(**{**whole, **seen})


def verdict(question: str, destination: Destination = PLAIN, **seen: Any) -> Verdict:
    (found,) = [it for it in verdicts(destination, conforming(**seen)) if it.question == question]
    return found


def outcome(question: str, destination: Destination = PLAIN, **seen: Any) -> tuple[str, str | None]:
    """Return result and setting; only a fault has a meaning and a setting."""
    found = verdict(question, destination, **seen)
    assert bool(found.meaning) == (found.result is Result.FAILED) or found.result is Result.NOTED
    return str(found.result), found.setting


def test_server_that_does_as_s3_has_no_fault() -> None:
    results = {it.question: it.result for it in verdicts(PLAIN, conforming())}
    assert results.pop("part-sizes") is Result.NOTED
    assert set(results.values()) == {Result.PASSED}
    assert list(results) == [
        "write",
        "found-again",
        "write-in-parts",
        "conditional-put",
        "conditional-complete",
        "concurrent-puts",
        "concurrent-completes",
        "checksum-put",
        "checksum-part",
        "torn-upload",
        "head",
        "abort",
        "content_type",
    ]


def test_nothing_asked_is_nothing_known() -> None:
    found = verdicts(PLAIN, Observations(write=DONE))
    assert {it.result for it in found[1:]} == {Result.UNKNOWN}
    assert len(found) == 14
    assert [it.question for it in verdicts(PLAIN, Observations())] == ["write"]


def test_document_has_null_for_what_is_not_there() -> None:
    assert verdict("write").document() == {
        "question": "write",
        "result": "passed",
        "found": "an object is written with all options",
        "meaning": None,
        "setting": None,
    }


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ("write", "write"),
        ("found-again", "found_again"),
        ("write-in-parts", "write_parts"),
        ("conditional-put", "put_new"),
        ("conditional-put", "put_existing"),
        ("conditional-complete", "complete_existing"),
        ("part-sizes", "unequal_parts"),
        ("head", "head_existing"),
        ("head", "head_missing"),
        ("abort", "abort"),
    ],
)
def test_request_without_a_response_proves_nothing(question: str, field: str) -> None:
    silent = verdict(question, **{field: SILENT})
    assert (silent.result, silent.found) == (Result.UNKNOWN, "no response (ConnectTimeoutError)")
    assert verdict(question, **{field: NOT_ASKED}).found.startswith("not asked: ")


def test_write_that_is_refused_names_the_options_that_are_in_the_way() -> None:
    assert outcome("write", write=REFUSED) == ("failed", None)
    found = verdict("write", write=REFUSED, refused_options=["sse", "tags"])
    assert found.found == "PutObject: NotImplemented, because of sse, tags"
    assert found.setting == "change or remove sse, tags"


def test_second_write_and_parts_must_succeed() -> None:
    assert outcome("found-again", found_again=REFUSED) == ("failed", None)
    assert outcome("write-in-parts", write_parts=REFUSED) == ("failed", None)


@pytest.mark.parametrize("how", ["put", "complete"])
@pytest.mark.parametrize(("new", "existing"), [(REFUSED, NOT_ASKED), (DONE, DONE), (DONE, REFUSED)])
def test_condition_that_is_refused_ignored_or_misread_needs_a_setting(
    how: str, new: Response, existing: Response
) -> None:
    seen = {f"{how}_new": new, f"{how}_existing": existing}
    fault = ("failed", "conditional_writes = false")
    assert outcome(f"conditional-{how}", **seen) == fault
    accepted = verdict(f"conditional-{how}", UNCONDITIONAL, **seen)
    assert accepted.result is Result.NOTED
    assert accepted.found.endswith("conditional_writes = false takes account of it")


def test_setting_that_is_not_needed_is_noted() -> None:
    found = verdict("conditional-put", UNCONDITIONAL)
    assert found.result is Result.NOTED
    assert found.found.endswith("conditional_writes = false is not needed")


@pytest.mark.parametrize("how", ["put", "complete"])
def test_server_that_lets_two_writers_through_is_found(how: str) -> None:
    races = [ONCE, Race(written=2, failed=1), Race(written=4, failed=0)]
    question, seen = f"concurrent-{how}s", {f"{how}_races": races}
    assert outcome(question, **seen) == ("failed", None)
    assert verdict(question, **seen).found.startswith("2 of 3 keys written more than once")
    assert outcome(question, UNCONDITIONAL, **seen) == ("noted", None)


def test_race_with_errors_proves_nothing() -> None:
    found = verdict("concurrent-puts", put_races=[ONCE, Race(written=1, failed=2)])
    assert (found.result, found.found) == (Result.UNKNOWN, "2 writes of 2 keys failed otherwise")


@pytest.mark.parametrize("existing", [DONE, REFUSED])
def test_race_under_a_condition_without_effect_is_not_run(existing: Response) -> None:
    found = verdict("concurrent-puts", put_existing=existing, put_races=None)
    assert found.found == "not asked: the condition has no effect"
    assert verdict("concurrent-puts", put_existing=SILENT, put_races=None).found != found.found


def test_checksum_that_is_not_verified_names_one_that_is() -> None:
    checksums = {"sha256": UNVERIFIED, "crc32": UNVERIFIED, "md5": VERIFIED}
    fault = ("failed", 'checksum = "md5"')
    assert outcome("checksum-put", checksums=checksums) == fault
    assert outcome("checksum-part", checksums=checksums) == fault
    none = dict.fromkeys(checksums, UNVERIFIED)
    assert outcome("checksum-put", checksums=none) == ("failed", None)
    md5 = replace(PLAIN, checksum="md5")
    assert outcome("checksum-put", md5, checksums=checksums) == ("passed", None)


@pytest.mark.parametrize(
    "trial",
    [
        VERIFIED._replace(right=REFUSED),
        VERIFIED._replace(wrong=DONE),
        VERIFIED._replace(wrong=SILENT),
        VERIFIED._replace(is_stored=True),
        VERIFIED._replace(part=DONE),
        VERIFIED._replace(part=SILENT),
    ],
)
def test_checksum_counts_as_verified_only_everywhere(trial: ChecksumTrial) -> None:
    assert VERIFIED.is_verified
    assert VERIFIED._replace(is_stored=None).is_verified
    assert not trial.is_verified


def test_refused_content_that_is_stored_all_the_same_is_a_fault() -> None:
    stored = VERIFIED._replace(is_stored=True)
    found = verdict("checksum-put", checksums={"sha256": stored, "crc32": VERIFIED})
    assert found.found == "a wrong sha256 is refused (NotImplemented), and the object is stored"
    assert found.setting == 'checksum = "crc32"'
    assert outcome("checksum-part", checksums={"sha256": stored}) == ("passed", None)


def test_checksum_without_a_response_is_unknown() -> None:
    silent = {"sha256": VERIFIED._replace(wrong=SILENT, part=SILENT)}
    assert outcome("checksum-put", checksums=silent) == ("unknown", None)
    assert outcome("checksum-part", checksums=silent) == ("unknown", None)


def test_torn_upload_that_is_stored_loses_events() -> None:
    torn = [TornUpload(1, is_stored=None), TornUpload(65_536, is_stored=True)]
    found = verdict("torn-upload", torn_uploads=torn)
    assert found.found == "an upload that was cut after 65536 bytes is stored"
    assert found.setting is None  # the checksum in use is verified: another one is no remedy
    checksums = {"sha256": UNVERIFIED, "md5": VERIFIED}
    assert outcome("torn-upload", torn_uploads=torn, checksums=checksums)[1] == 'checksum = "md5"'
    assert outcome("torn-upload", torn_uploads=torn, checksums={})[1] is None
    assert outcome("torn-upload", torn_uploads=torn[:1]) == ("unknown", None)


def test_sizes_of_parts_are_noted_either_way() -> None:
    assert verdict("part-sizes").found == "parts can differ in size"
    found = verdict("part-sizes", unequal_parts=Response(Kind.REFUSED, "InvalidPart"))
    assert (found.result, "InvalidPart" in found.found) == (Result.NOTED, True)


def test_head_without_the_right_to_read_matters_only_without_conditional_writes() -> None:
    denied = {"head_existing": DENIED, "head_missing": DENIED}
    assert outcome("head", **denied) == ("noted", None)
    assert outcome("head", UNCONDITIONAL, **denied) == (
        "failed",
        "allow s3:GetObject and s3:ListBucket",
    )
    assert outcome("head", UNCONDITIONAL, head_missing=DENIED) == ("passed", None)


def test_head_that_is_wrong_is_a_fault() -> None:
    assert outcome("head", head_missing=DONE) == ("failed", None)
    assert outcome("head", head_existing=MISSING) == ("failed", None)


def test_abort_must_work_and_spare_the_finished_object() -> None:
    assert outcome("abort", abort=REFUSED) == ("failed", None)
    assert outcome("abort", has_survived_abort=None) == ("unknown", None)
    assert outcome("abort", has_survived_abort=False) == ("failed", None)


OPTIONS = replace(
    PLAIN,
    acl="public-read",
    content_encoding="gzip",
    expected_bucket_owner="123456789012",
    kms_key_id="a-key",
    sse="aws:kms",
    storage_class="STANDARD_IA",
    tags=(("team", "orders"), ("retention", "7 years")),
)
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
KEPT = {
    "ContentEncoding": "gzip",
    "ContentType": "application/gzip",
    "SSEKMSKeyId": "arn:aws:kms:eu-central-1:123456789012:key/a-key",
    "ServerSideEncryption": "aws:kms",
    "StorageClass": "STANDARD_IA",
}
SEEN = {
    "stored": {"PutObject": KEPT, "CompleteMultipartUpload": KEPT},
    "stored_tags": {"team": "orders", "retention": "7 years", "bucket": "default"},
    "stored_grants": [(None, "FULL_CONTROL"), (ALL_USERS, "READ")],
    "wrong_owner": DENIED,
}
NAMES = (
    "acl",
    "content_encoding",
    "content_type",
    "expected_bucket_owner",
    "kms_key_id",
    "sse",
    "storage_class",
    "tags",
)


@pytest.mark.parametrize("option", NAMES)
def test_option_that_is_kept_passes_and_one_that_cannot_be_seen_is_unknown(option: str) -> None:
    assert outcome(option, OPTIONS, **SEEN) == ("passed", None)
    unseen = {"stored": {}, "stored_tags": None, "stored_grants": None, "wrong_owner": SILENT}
    assert outcome(option, OPTIONS, **unseen) == ("unknown", None)


@pytest.mark.parametrize("way", ["PutObject", "CompleteMultipartUpload"])
@pytest.mark.parametrize("option", sorted(set(NAMES) - {"acl", "expected_bucket_owner", "tags"}))
def test_option_that_one_way_of_writing_drops_is_found(option: str, way: str) -> None:
    stored = {"PutObject": KEPT, "CompleteMultipartUpload": KEPT, way: {}}
    found = verdict(option, OPTIONS, **{**SEEN, "stored": stored})
    assert (found.result, found.setting) == (Result.FAILED, f"remove {option}")
    assert f"was sent for {way}, and nothing is kept" in found.found


def test_option_with_another_value_is_found() -> None:
    stored = {"PutObject": {**KEPT, "ServerSideEncryption": "AES256"}}
    found = verdict("sse", OPTIONS, **{**SEEN, "stored": stored})
    assert found.found == "aws:kms was sent for PutObject, and AES256 is kept"


def test_storage_class_that_is_not_named_is_the_standard_one() -> None:
    standard = replace(PLAIN, storage_class="STANDARD")
    assert outcome("storage_class", standard, stored={"PutObject": {}}) == ("passed", None)


def test_key_of_an_alias_need_only_be_there() -> None:
    alias = replace(OPTIONS, kms_key_id="alias/orders")
    assert outcome("kms_key_id", alias, **SEEN) == ("passed", None)
    assert outcome("kms_key_id", alias, stored={"PutObject": {}})[0] == "failed"


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"team": "orders"}, "retention was sent as '7 years', and nothing is kept"),
        (
            {"team": "orders", "retention": "7%20years"},
            "retention was sent as '7 years', and '7%20years' is kept",
        ),
    ],
)
def test_tag_that_is_dropped_or_changed_is_found(tags: dict[str, str], found: str) -> None:
    assert verdict("tags", OPTIONS, **{**SEEN, "stored_tags": tags}).found == found


def test_acl_without_its_grant_is_found_and_one_without_a_group_is_unknown() -> None:
    assert outcome("acl", OPTIONS, **{**SEEN, "stored_grants": []}) == ("failed", "remove acl")
    private = replace(OPTIONS, acl="private")
    assert outcome("acl", private, **SEEN) == ("unknown", None)


def test_owner_that_is_not_verified_is_found() -> None:
    found = outcome("expected_bucket_owner", OPTIONS, **{**SEEN, "wrong_owner": DONE})
    assert found == ("failed", "remove expected_bucket_owner")


def test_what_is_left_is_noted_with_the_command_that_removes_it() -> None:
    command = "aws s3 rm --recursive s3://my-bucket/x/"
    assert verdict("removal", removal=Removal(40, 0, "", command)).found == "40 objects removed"
    left = verdict("removal", removal=Removal(1, 39, "AccessDenied", command))
    assert left.result is Result.NOTED
    assert left.found == f"1 object removed, 39 left (AccessDenied); remove them with: {command}"
