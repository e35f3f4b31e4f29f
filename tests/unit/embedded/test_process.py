import os
import subprocess
import sys

import pytest

from stream_app.embedded import process
from stream_app.embedded.process import PORTS, free_ports
from stream_app.errors import SetupError

COUNT = 6
OTHER_PROCESS = """
import sys
from stream_app.embedded import process
process.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
print(*process.free_ports(int(sys.argv[3])), flush=True)
sys.stdin.read()
"""


def test_ports_are_different_and_within_the_range() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert set(ports) <= set(PORTS)


def test_no_port_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_ports(1)[0]
    monkeypatch.setattr(process, "PORTS", range(first, first + 1))
    with pytest.raises(SetupError, match=r"^127\.0\.0\.1: 0 ports of \d+\.\.\d+ are free and 1 "):
        free_ports(1)


def test_other_process_is_given_other_ports_until_this_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = 15_000 + os.getpid() % 400 * 2 * COUNT  # where nobody else looks for ports
    few = range(begin, begin + 2 * COUNT)
    monkeypatch.setattr(process, "PORTS", few)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, f"{few.start}", f"{few.stop}", f"{COUNT}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        theirs = {int(port) for port in other.stdout.readline().split()}
        assert len(theirs) == COUNT
        ours = set(free_ports(len(few) - COUNT))
        assert not ours & theirs
        other.kill()
    assert set(free_ports(COUNT)) == theirs
