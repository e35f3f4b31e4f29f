"""docs/start.md leads to a first receipt and a first object, and the object is what it shows."""

import re
import subprocess
import sys
from pathlib import Path

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.docs.blocks import ROOT, block
from tests.docs.walk import SECONDS_MAX, Place, walked

DOCUMENT = "docs/start.md"


def test_page_leads_to_a_first_receipt_and_a_first_object(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, topic_prefix: str
) -> None:
    place = Place(kafka, s3, topic_prefix)
    place.create_bucket()
    text = block(DOCUMENT, "file stream_app.toml")
    assert "127.0.0.1:9092" in text
    (tmp_path / "stream_app.toml").write_text(place.here(text))
    with walked(DOCUMENT, tmp_path, place.environment) as first:
        assert (first["destination"], first["status"]) == ("orders-archive", "delivered")
        stored = first["object"]
        reader = ROOT / "docs" / "examples" / "python" / "read_object.py"
        printed = subprocess.run(
            [sys.executable, str(reader), stored["bucket"], stored["key"]],
            env=place.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        ).stdout
    shown = re.search(r"\| gunzip\n(.*?)```", (ROOT / DOCUMENT).read_text("utf-8"), re.DOTALL)
    assert shown
    assert printed == shown[1]
