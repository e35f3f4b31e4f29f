from pathlib import Path

from tests.compat.run import BEGIN, DOCUMENT, END, row, with_row
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


def test_row_has_faults_options_and_what_became_of_the_events() -> None:
    cells = row("minio", VERDICTS, DELIVERIES).strip("|\n ").split(" | ")
    assert cells[0] == f"MinIO {PROGRAMS['minio'].version}"
    assert cells[3] == "`conditional-put`: ignored<br>`abort`: NotImplemented"
    assert cells[4] == "dropped: `tags`<br>refused: `acl`, `sse`<br>kept: `storage_class`"
    assert cells[5] == ("93 events, 5 objects: 0 lost, 2 repeated; 1 found again, 3 written twice")


def test_row_replaces_the_older_one_of_its_server_and_no_other() -> None:
    text = f"before\n{BEGIN}| server |\n|---|\n| MinIO v1 | a |\n| moto 5 | b |\n{END}after\n"
    renewed = with_row(text, "minio", "| MinIO v2 | c |\n")
    assert renewed == text.replace("| MinIO v1 | a |", "| MinIO v2 | c |")
    added = with_row(text, SEAWEEDFS, "| SeaweedFS 4 | d |\n")
    assert added == text.replace("| moto 5 |", "| SeaweedFS 4 | d |\n| moto 5 |")


def test_document_names_every_server_that_can_be_run() -> None:
    text = Path(DOCUMENT).read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    for name in (SEAWEEDFS, *PROGRAMS):
        assert f"`{name}`" in text
        assert described(name)[1]
