"""The commands after the demo can be typed as they are printed."""

import shutil
import sys
from pathlib import Path

import pytest

from stream_app.cli.demo.next_steps import kept_demo, next_steps

ENVIRONMENT = {"STREAM_APP_KAFKA_BROKER": "kafka://127.0.0.1:9", "AWS_SECRET_ACCESS_KEY": "a b"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment without the command on the PATH, and the shell beside it."""
    script = tmp_path / "with space" / "bin" / "stream-app"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept() -> list[str]:
    return kept_demo(
        Path("/tmp/demo/stream_app.toml"),  # noqa: S108 - only printed
        {"Inspector": "http://127.0.0.1:8"},
        events=Path("/tmp/demo/orders.ndjson"),  # noqa: S108 - only printed
        pipeline="orders",
        own_bucket="mine",
        environment=ENVIRONMENT,
    )


def test_command_is_named_by_its_path_where_it_is_not_on_the_path(folder: Path) -> None:
    assert (
        "  keep all of it running, with the Inspector: 'with space/bin/stream-app' demo --keep"
        in (next_steps())
    )
    (alias,) = [it for it in kept() if "alias" in it]
    assert str(folder / "with space") in alias


def test_command_on_the_path_is_named_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = folder / "with space" / "bin" / "stream-app"
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(script.parent))
    assert shutil.which("stream-app") == str(script)
    assert "  keep all of it running, with the Inspector: stream-app demo --keep" in next_steps()
    assert not any("alias" in it for it in kept())


def test_checkout_that_is_not_installed_is_run_as_a_module(folder: Path) -> None:
    (folder / "with space" / "bin" / "stream-app").unlink()
    assert next_steps()[1].endswith("/bin/python' -m stream_app demo --keep")


def test_kept_demo_shows_addresses_commands_and_variables(folder: Path) -> None:
    assert folder
    lines = kept()
    assert "  Inspector: http://127.0.0.1:8" in lines
    assert (
        "  stream-app send --config /tmp/demo/stream_app.toml --pipeline orders "
        "/tmp/demo/orders.ndjson"
    ) in lines
    assert "  export AWS_SECRET_ACCESS_KEY='a b'" in lines
    assert any("the bucket mine" in it for it in lines)


def test_page_is_a_file_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[4])
    assert next_steps()[-1] == "  use your own Kafka and S3: docs/start.md"
