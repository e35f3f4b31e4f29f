"""docs/start.md leads to a first receipt and a first object, and the object is what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

from stream_app.embedded import KafkaServer, S3Server
from tests.docs.blocks import ROOT, block
from tests.docs.walk import SECONDS_MAX, walked

DOCUMENT = "docs/start.md"


def test_page_leads_to_a_first_receipt_and_a_first_object(tmp_path: Path) -> None:
    # Servers of its own: the page uses the default names of topics and group.
    with KafkaServer() as kafka, S3Server() as s3:
        s3.create_bucket("my-bucket")
        text = block(DOCUMENT, "file stream_app.toml")
        assert "127.0.0.1:9092" in text
        (tmp_path / "stream_app.toml").write_text(
            text.replace("127.0.0.1:9092", kafka.address).replace(
                "http://127.0.0.1:8333", s3.endpoint_url
            )
        )
        environment = {
            **os.environ,
            **s3.environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "S3_ENDPOINT_URL": s3.endpoint_url,
            "STREAM_APP_DELIVERY_WINDOW_SECONDS": "2",
        }
        with walked(DOCUMENT, tmp_path, environment) as first:
            assert (first["destination"], first["status"]) == ("orders-archive", "delivered")
            stored = first["object"]
            reader = ROOT / "docs" / "examples" / "python" / "read_object.py"
            printed = subprocess.run(
                [sys.executable, str(reader), stored["bucket"], stored["key"]],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
            ).stdout
    shown = re.search(r"\| gunzip\n(.*?)```", (ROOT / DOCUMENT).read_text("utf-8"), re.DOTALL)
    assert shown
    assert printed == shown[1]
