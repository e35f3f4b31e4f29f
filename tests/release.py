"""Builder of a release in `dist/`, by `make release`.

1. The commit is clean, and CHANGELOG.md has a date for its version; a draft (`--draft`) need not.
2. Wheel and source distribution, by the tools of `requirements-release.txt` in an environment of
   their own. The same commit gives the same bytes.
3. `twine check` of both.
4. The wheel on each Python that is found: installed with the packages of `requirements.txt`, it
   checks a configuration and evaluates an expression. The first of them gives the SBOM.
5. The image, where a Docker engine responds (`make image`).
6. The notes, out of CHANGELOG.md, and the checksums of all files.

Nothing is uploaded.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
DIST: Final = ROOT / "dist"
PYTHONS: Final = ("python3.11", "python3.12", "python3.13", "python3.14")
NOTES: Final = "RELEASE_NOTES.md"
CHECKSUMS: Final = "SHA256SUMS"
CONFIGURATION: Final = """
[[destinations]]
id = "orders"
bucket = "my-bucket"
payload = "({ order: $event.body.order + 1 })"
"""
EVENT: Final = '{"body": {"order": 7}}\n'
EVALUATED: Final = '{"order":8}'


def version() -> str:
    """Return the version in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["version"])


def section(changelog: str, release: str) -> tuple[str, str]:
    """Return what CHANGELOG.md has in parentheses behind a version, and what it says of it.

    Raises:
        ValueError: CHANGELOG.md has no heading for the version, or nothing below it.
    """
    found = re.search(
        rf"^## {re.escape(release)} \(([^)]+)\)\n(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if found is None or not found[2].strip():
        raise ValueError(f"CHANGELOG.md has no section '## {release} (DATE)'; write one")
    return found[1], found[2].strip() + "\n"


def obstacles(state: str, changed: str) -> list[str]:
    """Return what a release waits for.

    Args:
        state: What CHANGELOG.md has in parentheses behind the version.
        changed: What `git status --porcelain` prints.
    """
    found = []
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", state):
        found.append(f"CHANGELOG.md says ({state}); write the date")
    if changed:
        found.append(f"files differ from the commit; commit or remove them:\n{changed.rstrip()}")
    return found


def checksums(folder: Path) -> str:
    """Return a line for each file, as `sha256sum --check` reads it."""
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
        if file.name != CHECKSUMS
    )


def run(*command: str | Path, **environment: str) -> str:
    """Return what a program prints; end with all of it if the program fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(part) for part in command)}\n{done.stdout}")
    return done.stdout


def environment(python: str | Path, folder: Path, lock: str) -> Path:
    """Return the folder of the programs of a new environment with a lock file's packages."""
    run(python, "-m", "venv", folder)
    programs = folder / "bin"
    run(programs / "python", "-m", "pip", "install", "--require-hashes", "--requirement", lock)
    return programs


def build(programs: Path) -> Path:
    """Build wheel and source distribution, check both, and return the wheel."""
    # Of the commit: the time of a file in a checkout is by chance.
    made = run("git", "log", "-1", "--format=%ct").strip()
    run(programs / "hatchling", "build", "--directory", DIST, SOURCE_DATE_EPOCH=made)
    (wheel,) = DIST.glob("*.whl")
    (source,) = DIST.glob("*.tar.gz")
    print(run(programs / "twine", "check", "--strict", wheel, source).rstrip())
    return wheel


def try_wheel(python: str, wheel: Path, folder: Path) -> Path:
    """Install the wheel for a Python, use it, and return the environment's Python."""
    programs = environment(python, folder, "requirements.txt")
    run(programs / "python", "-m", "pip", "install", "--no-deps", wheel)
    (folder / "stream_app.toml").write_text(CONFIGURATION, "utf-8")
    (folder / "events.ndjson").write_text(EVENT, "utf-8")
    printed = run(
        *(programs / "stream-app", "check", "--offline", "--json"),
        *("--config", folder / "stream_app.toml", "--event", folder / "events.ndjson"),
    )
    kinds = {it["kind"]: it for it in map(json.loads, printed.splitlines())}
    if kinds["trial"]["line"] != EVALUATED:
        sys.exit(f"{python}: {printed}")
    # The SBOM has what is left: these came with the environment.
    run(programs / "python", "-m", "pip", "uninstall", "--yes", "setuptools", "pip")
    return programs / "python"


def engine_responds() -> bool:
    """Return whether there is a Docker engine that builds an image."""
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a release in dist/.")
    parser.add_argument("--draft", action="store_true")
    parser.add_argument("pythons", nargs="*", default=PYTHONS)
    options = parser.parse_args()
    state, notes = section((ROOT / "CHANGELOG.md").read_text("utf-8"), version())
    missing = obstacles(state, run("git", "status", "--porcelain"))
    if missing and not options.draft:
        sys.exit("\n".join(missing) + "\nor build a draft: make release DRAFT=1")
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    found = [it for it in options.pythons if shutil.which(it)]
    if not found:
        sys.exit(f"none of {', '.join(options.pythons)} is on this machine")
    with tempfile.TemporaryDirectory() as temporary:
        tools = environment(sys.executable, Path(temporary) / "tools", "requirements-release.txt")
        wheel = build(tools)
        for number, python in enumerate(found):
            installed = try_wheel(python, wheel, Path(temporary) / str(number))
            print(run(installed, "--version").strip() + ": the wheel installs and evaluates")
            if number == 0:
                run(
                    *(tools / "cyclonedx-py", "environment", "--pyproject", "pyproject.toml"),
                    *("--output-reproducible", "--output-file", f"{wheel}.cdx.json", installed),
                )
    for python in sorted(set(options.pythons) - set(found)):
        print(f"{python}: not on this machine, so the wheel was not tried on it")
    if engine_responds():
        run("make", "image")
        archive = DIST / f"stream-app-{version()}-image.tar"
        run("docker", "save", "--output", archive, f"stream-app:{version()}")
    else:
        print("no Docker engine responds, so there is no image")
    (DIST / NOTES).write_text(f"# stream-app {version()} ({state})\n\n{notes}", "utf-8")
    (DIST / CHECKSUMS).write_text(checksums(DIST), "utf-8")
    print(
        "\n".join(
            f"dist/{file.name}: {file.stat().st_size:,} bytes" for file in sorted(DIST.iterdir())
        )
    )


if __name__ == "__main__":
    main()
