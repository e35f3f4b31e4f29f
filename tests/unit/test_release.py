"""What a release is made of: its state, notes, checksums and metadata."""

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.release import CHECKSUMS, PYTHONS, checksums, obstacles, section, version

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## 0.2.0 (2027-01-02)
### Added
- A thing.

## 0.1.0 (2026-11-25)
The first.
"""


def test_notes_are_the_versions_section() -> None:
    assert section(CHANGELOG, "0.2.0") == ("2027-01-02", "### Added\n- A thing.\n")
    assert section(CHANGELOG, "0.1.0") == ("2026-11-25", "The first.\n")


@pytest.mark.parametrize("changelog", [CHANGELOG, "## 0.3.0 (2027-01-02)\n\n## 0.2.0 (x)\nA.\n"])
def test_version_without_notes_is_refused(changelog: str) -> None:
    with pytest.raises(ValueError, match=r"no section '## 0\.3\.0 \(DATE\)'"):
        section(changelog, "0.3.0")


def test_changelog_has_notes_of_this_version() -> None:
    state, notes = section((ROOT / "CHANGELOG.md").read_text("utf-8"), version())
    assert state
    assert notes.count("\n- ") > 10


def test_release_waits_for_a_date_and_a_clean_commit() -> None:
    assert obstacles("2027-01-02", "") == []
    assert obstacles("not released", "") == ["CHANGELOG.md says (not released); write the date"]
    (found,) = obstacles("2027-01-02", "?? left-over\n")
    assert found.endswith("commit or remove them:\n?? left-over")


def test_checksums_are_read_by_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b.whl").write_bytes(b"wheel")
    (tmp_path / "a.md").write_bytes(b"notes")
    (tmp_path / CHECKSUMS).write_text("of another build")
    text = checksums(tmp_path)
    assert [line.split("  ") for line in text.splitlines()] == [
        [hashlib.sha256(b"notes").hexdigest(), "a.md"],
        [hashlib.sha256(b"wheel").hexdigest(), "b.whl"],
    ]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """Return the metadata of a wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        (name,) = [it for it in content.namelist() if it.endswith(".dist-info/METADATA")]
        return message_from_bytes(content.read(name))


def test_index_refuses_the_package_while_the_name_is_not_ours(metadata: Message) -> None:
    assert "Private :: Do Not Upload" in (metadata.get_all("Classifier") or [])
    # A link that somebody else could own is worse than none.
    assert metadata.get_all("Project-URL") is None


def test_metadata_names_the_pythons_that_a_release_tries(metadata: Message) -> None:
    named = [
        it.rpartition(" ")[2]
        for it in metadata.get_all("Classifier") or []
        if it.startswith("Programming Language :: Python :: 3.")
    ]
    assert [f"python{it}" for it in named] == list(PYTHONS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["Requires-Python"] == project["requires-python"] == f">={named[0]}"
