"""The file of a worker as it is followed from its start on."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.cli.common import STATUS_WRONG
from stream_app.config.files import ConfigSource
from stream_app.core.router import Router, compile_router
from stream_app.monitoring.reload_state import ReloadState
from stream_app.worker.reload import Reloader

SECONDS_MAX = 120
TEXT = '[[destinations]]\nid = "{id}"\nbucket = "my-bucket"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stream_app.toml"
    path.write_text(TEXT.format(id="at-the-start"), "utf-8")
    return path


def followed(
    file: Path,
    until: Callable[[list[Router]], bool],
    *,
    before: Callable[[], object] = lambda: None,
    during: Callable[[], object] = lambda: None,
    reread_at: list[int] | None = None,
) -> list[str]:
    """Follow a file until what it was found to hold is enough; return the ids taken.

    Args:
        file: The file, which was read.
        until: Whether the destinations taken so far are enough.
        before: Called between reading and following.
        during: Called once it is followed.
        reread_at: Is given an entry whenever secrets are to be read again.
    """
    taken: list[Router] = []

    async def reread() -> None:
        if reread_at is not None:
            reread_at.append(len(taken))

    async def scenario() -> None:
        state = ReloadState(1, succeeded_at=0.0)
        source = ConfigSource(str(file), {})
        settings = source.load()
        before()
        reloader = Reloader(
            *(source, settings, compile_router(settings), taken.append, state), reread=reread
        )
        task = asyncio.create_task(reloader.run())
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.sleep(0)  # its first step sets the handler
            during()
            while not until(taken):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
    return [id_ for router in taken for id_ in router.destinations]


def test_change_between_reading_and_following_the_file_is_found(file: Path) -> None:
    ids = followed(
        file, bool, before=lambda: file.write_text(TEXT.format(id="changed-meanwhile"), "utf-8")
    )
    assert ids == ["changed-meanwhile"]


def test_change_of_a_file_in_the_folder_of_destinations_is_found(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = file.parent / "teams"
    folder.mkdir()
    file.write_text('destinations_dir = "teams"\n', "utf-8")
    team = folder / "a.toml"
    team.write_text(TEXT.format(id="at-the-start"), "utf-8")
    ids = followed(
        file, bool, before=lambda: team.write_text(TEXT.format(id="changed-meanwhile"), "utf-8")
    )
    assert ids == ["changed-meanwhile"]
    wrong = f"{team}: line 1, column 5: Invalid value"
    looks = lambda _: any(wrong in it for it in caplog.messages)  # noqa: E731
    assert followed(file, looks, before=lambda: team.write_text("a = ", "utf-8")) == []


def test_reload_compiles_what_is_new_and_counts_what_is_not_the_same(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    folder = file.parent / "teams"
    folder.mkdir()
    file.write_text('destinations_dir = "teams"\n', "utf-8")
    (folder / "a.toml").write_text(TEXT.format(id="a") + TEXT.format(id="b"), "utf-8")
    (folder / "b.toml").write_text(TEXT.format(id="c") + TEXT.format(id="d"), "utf-8")
    moved = f'{TEXT.format(id="b")}prefix = "moved/"\n{TEXT.format(id="c")}{TEXT.format(id="e")}'

    def change() -> None:
        (folder / "b.toml").unlink()
        (folder / "a.toml").write_text(moved, "utf-8")

    ids = followed(file, lambda it: len(it) > 0 and "b" in it[-1].destinations, before=change)
    assert sorted(ids) == ["b", "c", "e"]
    # The destination that has only moved to another file has not changed.
    assert caplog.messages[-1].endswith("3 destinations: 1 added, 1 changed, 2 removed")


def test_first_look_at_an_unchanged_file_is_not_logged_and_a_sighup_is(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    unchanged = f"{file}: the destinations have not changed"
    looks = iter(range(50))
    assert followed(file, lambda _: next(looks) > 40) == []
    assert caplog.messages == []
    hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP)  # noqa: E731
    assert followed(file, lambda _: unchanged in caplog.messages, during=hang_up) == []
    assert caplog.messages == [unchanged]


def test_secrets_are_read_again_on_sighup_and_not_otherwise(file: Path) -> None:
    reread_at: list[int] = []
    changed = lambda: file.write_text(TEXT.format(id="changed"), "utf-8")  # noqa: E731
    followed(file, bool, before=changed, reread_at=reread_at)
    assert reread_at == []
    hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP)  # noqa: E731
    followed(file, lambda _: bool(reread_at), during=hang_up, reread_at=reread_at)
    assert reread_at == [0]


def test_sighup_before_the_file_is_read_does_not_end_a_worker(tmp_path: Path) -> None:
    pipe = tmp_path / "stream_app.toml"
    os.mkfifo(pipe)
    worker = subprocess.Popen(
        [sys.executable, "-m", "stream_app", "worker", "--config", str(pipe)],
        stderr=subprocess.PIPE,
    )
    with pipe.open("wb") as file:  # returns once the worker is about to read
        worker.send_signal(signal.SIGHUP)
        file.write(b"no configuration")
    _, errors = worker.communicate(timeout=SECONDS_MAX)
    assert worker.returncode == STATUS_WRONG, errors
