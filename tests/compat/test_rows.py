from datetime import UTC, datetime
from pathlib import Path

from tests.compat.brokers import JAVA_VERSION, RELEASES, THREE_BROKERS
from tests.compat.readers import MIXED, PLAIN, difference, lines
from tests.compat.readers import PROGRAMS as READERS
from tests.compat.run import BEGIN, DOCUMENT, END, kafka_row, kafka_title, server_row, with_row
from tests.compat.stores import PROGRAMS, SEAWEEDFS, described
from tests.compat.trial import Deliveries, Verdicts

VERDICTS = Verdicts(
    {
        "write": {"result": "passed", "found": "written"},
        "conditional-put": {"result": "failed", "found": "ignored"},
        "abort": {"result": "failed", "found": "NotImplemented"},
    },
    {"tags": "failed", "acl": "refused", "sse": "refused", "storage_class": "passed"},
)
DELIVERIES = Deliveries(sent=93, lost=0, repeated=2, objects=5, found_again=1, written_again=3)
DELIVERED = "93 events, 5 objects: 0 lost, 2 repeated; 1 found again, 3 written twice"


def test_row_of_a_server_has_faults_options_and_what_became_of_the_events() -> None:
    cells = server_row("minio", VERDICTS, DELIVERIES)
    assert cells[0] == f"MinIO {PROGRAMS['minio'].version}"
    assert cells[2] == "`conditional-put`: ignored<br>`abort`: NotImplemented"
    assert cells[3] == "dropped: `tags`<br>refused: `acl`, `sse`<br>kept: `storage_class`"
    assert cells[4] == DELIVERED


def test_row_of_a_kafka_has_mode_java_and_what_was_killed() -> None:
    cells = kafka_row("2.8.2", DELIVERIES)
    assert cells == ["2.8.2", "ZooKeeper", JAVA_VERSION, "the worker, at four moments", DELIVERED]
    cells = kafka_row(THREE_BROKERS, DELIVERIES)
    assert cells[1] == "KRaft, replication factor 3, `min.insync.replicas` 2"
    assert cells[3] == "the coordinator's node, then a leader's, under two workers"


def test_row_replaces_the_older_one_of_its_title_and_no_other() -> None:
    today = datetime.now(UTC).date().isoformat()
    begin = BEGIN.format(kind="KAFKA")
    other = f"{BEGIN.format(kind='SERVER')}| server |\n|---|\n| 4.1.1 | z |\n{END}"
    rows = "| 4.1.1 | old | a |\n| 4.1.1, three brokers | old | b |\n"
    text = f"before\n{other}{begin}| Kafka |\n|---|\n{rows}{END}after\n"
    renewed = with_row(text, "KAFKA", "4.1.1", ["4.1.1", "c"])
    assert renewed == text.replace("| 4.1.1 | old | a |", f"| 4.1.1 | {today} | c |")
    added = with_row(text, "KAFKA", "2.8.2", ["2.8.2", "d"])
    assert added == text.replace("| 4.1.1 | old", f"| 2.8.2 | {today} | d |\n| 4.1.1 | old")


def test_document_names_all_that_can_be_run() -> None:
    text = Path(DOCUMENT).read_text("utf-8")
    for kind in ("SERVER", "KAFKA", "READER"):
        assert text.count(BEGIN.format(kind=kind)) == 1
    for name in (SEAWEEDFS, *PROGRAMS):
        assert f"`{name}`" in text
        assert described(name)[1]
    for name in (*[it.version for it in RELEASES], THREE_BROKERS):
        assert f"\n| {kafka_title(name)} |" in text
    for package in READERS.values():
        assert f"\n| {package.title} {package.version} |" in text


def test_difference_of_lines_names_the_values_that_were_read_otherwise() -> None:
    plain, mixed = lines()[PLAIN], lines()[MIXED]
    assert difference(plain, plain) == "100 lines, all values equal"
    assert difference(plain[1:], plain) == "99 of 100 lines"
    assert difference(plain, mixed) == "`mixed` is `null`"
    rounded = [it | {"beyond_double": 2**53} for it in plain]
    assert difference(rounded, plain) == "`beyond_double` is `9007199254740992`"
