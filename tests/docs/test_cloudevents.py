"""CloudEvents' SDK for Node.js reads receipts, with the program on the page."""

import json
import subprocess
from pathlib import Path
from typing import Final

from tests.docs.blocks import ROOT
from tests.docs.test_clients import SECONDS_MAX, install_node_examples

PACKAGE: Final = "cloudevents@10.0.0"
PROGRAM: Final = """
import { Kafka } from 'cloudevents'
import { readFileSync } from 'node:fs'
import { toEvent } from './cloudevent.js'

for (const { key, headers, value } of JSON.parse(readFileSync(process.argv[2])).receipts) {
  const buffers = Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)])
  const body = Buffer.from(JSON.stringify(value))
  const message = { key: Buffer.from(key), value: body, headers: Object.fromEntries(buffers) }
  let error = ''
  try { Kafka.toEvent(message) } catch (failure) { error = failure.message }
  const event = toEvent(message)
  event.validate()
  console.log(JSON.stringify({ error, event }))
}
"""


def test_receipts_with_buffers_as_headers_become_events(tmp_path: Path) -> None:
    node = install_node_examples(tmp_path, PACKAGE)
    (tmp_path / "program.js").write_text(PROGRAM, "utf-8")
    recorded = ROOT / "tests" / "formats" / "0.2.0.json"
    done = subprocess.run(
        [node, "program.js", recorded],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    receipts = json.loads(recorded.read_text("utf-8"))["receipts"]
    assert [it["event"]["id"] for it in found] == [it["headers"]["ce_id"] for it in receipts]
    assert [it["event"]["data"] for it in found] == [it["value"] for it in receipts]
    assert {it["error"] for it in found} == {"contentType.startsWith is not a function"}
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    assert f"npm install {PACKAGE}" in page
