"""The Inspector's configuration follows the file, and says why it does not."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.inspector.service.config_watcher import ConfigWatcher

GOOD = '[[destinations]]\nid = "a"\nbucket = "my-bucket"\n'
SECONDS_MAX = 30.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("mistaken", "mistake"),
    [
        (GOOD + 'buckt = "x"\n', "key 'buckt' is unknown; did you mean bucket?"),
        (GOOD + 'payload = "$event."\n', "payload does not compile: SyntaxError"),
    ],
)
def test_file_that_is_not_taken_leaves_the_destinations_and_its_mistakes_are_kept(
    tmp_path: Path, mistaken: str, mistake: str
) -> None:
    file = tmp_path / "stream_app.toml"
    file.write_text(GOOD)
    changes: list[float] = []
    watcher = ConfigWatcher(str(file), {}, lambda: changes.append(time.monotonic()))
    assert watcher.mistakes == ()

    async def scenario() -> None:
        running = asyncio.create_task(watcher.run())
        file.write_text(mistaken)
        await until(lambda: watcher.mistakes != ())
        assert [mistake in it for it in watcher.mistakes] == [True]
        assert "\n" not in watcher.mistakes[0]
        assert set(watcher.destinations) == {"a"}
        assert changes == []
        file.write_text(GOOD.replace('"a"', '"b"'))
        await until(lambda: changes != [])
        assert watcher.mistakes == ()
        assert set(watcher.destinations) == {"b"}
        running.cancel()

    asyncio.run(scenario())
