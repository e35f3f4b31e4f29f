"""The documents build a site without a warning: its links exist, and it loads nothing foreign."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.docs.blocks import ROOT
from tests.docs.generate import DOCS, SCHEMA, renewed

SECONDS_MAX = 300
PAGES = sorted(DOCS.glob("*.md"))
NAMES = [page.name for page in PAGES]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LOADED = ("src", "srcset", "poster", "data", "background", "xlink:href")
LOADED_BY_LINK = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "manifest"}
ELSEWHERE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


@dataclass
class Page(HTMLParser):
    """Resources, links and anchors of a page of the site."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    styles: str = ""
    _in_style: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.classes.update(has.get("class", "").split())
        self.anchors.update(has[name] for name in ("id", "name") if name in has)
        self.styles += has.get("style", "") + "\n"
        self._in_style = tag == "style"
        if tag == "link" and LOADED_BY_LINK & set(has.get("rel", "").split()):
            self.loads.append(has["href"])
        elif tag == "a" and "href" in has:
            self.links.append(has["href"])
        elif tag == "form":
            self.loads.append(has.get("action", ""))
        self.loads += [has[name] for name in LOADED if name in has]

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles += data

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"


def read(page: Path) -> Page:
    parser = Page()
    parser.feed(page.read_text("utf-8"))
    return parser


def loaded_by(styles: str) -> list[str]:
    """Return what a style sheet loads."""
    styles = re.sub(r"/\*.*?\*/", "", styles, flags=re.DOTALL)
    urls = re.findall(r"""url\(\s*["']?([^"')]+)""", styles)
    return urls + re.findall(r"""@import\s+["']([^"']+)""", styles)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert built.returncode == 0, built.stderr
    return folder


def pages_of(navigation: Sequence[Any]) -> Iterator[str]:
    for entry in navigation:
        for inside in entry.values():
            if isinstance(inside, str):
                yield inside
            else:
                yield from pages_of(inside)


def test_every_page_has_the_version(site: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    for page in PAGES:
        text = (site / page.with_suffix(".html").name).read_text("utf-8")
        assert f"stream-app {version}" in text, page


def navigation() -> list[str]:
    return [*pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])]


def test_every_page_is_built_without_a_warning(site: Path) -> None:
    for page in PAGES:
        assert (site / page.with_suffix(".html").name).stat().st_size > 0


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(navigation()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_page_has_one_title_and_it_comes_first(name: str) -> None:
    text = FENCED.sub("", (DOCS / name).read_text("utf-8"))
    assert re.findall(r"^# .*", text, re.MULTILINE) == [text.partition("\n")[0]]


@pytest.mark.parametrize("name", NAMES)
def test_list_and_table_begin_where_the_site_sees_them(name: str) -> None:
    # A code host takes them amid a paragraph, and MkDocs does not.
    blocks = re.split(r"\n\s*\n", FENCED.sub("", (DOCS / name).read_text("utf-8")))
    unseen = [
        line
        for block in blocks
        for before, line in zip(block.splitlines(), block.splitlines()[1:], strict=False)
        if re.match(r"[-*] |\d+\. |\|", line)
        if not re.match(r"\s*(?:[-*] |\d+\. |\||<!--)|\s\s", before)
    ]
    assert unseen == []


def slug(heading: str) -> str:
    """Return the anchor of a heading on a code host."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def headings(document: Path) -> set[str]:
    text = FENCED.sub("", document.read_text("utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("document", [*PAGES, *ROOT.glob("*.md")], ids=lambda path: path.name)
def test_every_anchor_of_a_link_is_a_heading_on_a_code_host(document: Path) -> None:
    text = FENCED.sub("", document.read_text("utf-8"))
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", text)
    dead = [
        f"{file}#{anchor}"
        for file, anchor in links
        if anchor not in headings(document.parent / file if file else document)
    ]
    assert dead == []


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor(site: Path) -> None:
    read_pages = {page: read(page) for page in site.rglob("*.html")}
    dead = []
    looked_at = 0
    for page, content in read_pages.items():
        # The page for what is not there names its parts by paths from the root of a server.
        for link in content.links if page.name != "404.html" else ():
            where = urlsplit(link)
            if where.scheme or where.netloc:
                continue
            looked_at += 1
            target = (page.parent / unquote(where.path)).resolve() if where.path else page
            anchors = read_pages[target].anchors if target in read_pages else set()
            if not target.is_file() or (where.fragment and unquote(where.fragment) not in anchors):
                dead.append(f"{page.name}: {link}")
    assert dead == []
    assert looked_at > 500


def test_site_loads_nothing_from_another_host(site: Path) -> None:
    loads = [
        (page.name, load)
        for page in site.rglob("*.html")
        for content in [read(page)]
        for load in (*content.loads, *loaded_by(content.styles))
    ]
    loads += [
        (sheet.name, load)
        for sheet in site.rglob("*.css")
        for load in loaded_by(sheet.read_text("utf-8"))
    ]
    assert len(loads) > 5 * len(PAGES)
    assert [it for it in loads if ELSEWHERE.match(it[1]) and not it[1].startswith("data:")] == []


def test_page_gives_the_themes_script_no_reason_to_load_from_elsewhere(site: Path) -> None:
    # The theme fetches a program for diagrams, and figures of a repository if one is named.
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert "mermaid" not in read(page).classes, page
        assert 'data-md-component="source"' not in text, page


@pytest.mark.parametrize(
    ("styles", "loads"),
    [
        ("a { background: url(https://example.com/a.png) }", ["https://example.com/a.png"]),
        ("@import '//example.com/a.css';", ["//example.com/a.css"]),
        ('@font-face { src: url("a.woff2") }', ["a.woff2"]),
        ("/* url(https://example.com/) */", []),
    ],
)
def test_what_a_style_sheet_loads_is_seen(styles: str, loads: list[str]) -> None:
    assert loaded_by(styles) == loads


def test_what_a_page_loads_is_seen() -> None:
    page = Page()
    page.feed(
        '<link rel="stylesheet" href="//a"><script src="https://b"></script><img srcset="c">'
        '<style>p { background: url(d) }</style><a href="https://e">e</a><link rel="next" href="f">'
    )
    assert page.loads == ["//a", "https://b", "c"]
    assert loaded_by(page.styles) == ["d"]
    assert page.links == ["https://e"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_generated_is_up_to_date(name: str) -> None:
    document = DOCS / name
    if document.read_text("utf-8") != renewed(document):
        pytest.fail(f"docs/{name} is out of date; run: python -m tests.docs.generate")


def properties(schema: Any) -> Iterator[str]:
    """Return the name of every field of a schema, however deep."""
    if isinstance(schema, list):
        for inner in schema:
            yield from properties(inner)
    elif isinstance(schema, dict):
        yield from schema.get("properties", {})
        for inner in schema.values():
            yield from properties(inner)


def test_every_field_of_the_receipts_schema_is_documented() -> None:
    text = (DOCS / "receipts.md").read_text("utf-8")
    section = text.partition("## Every field")[2]
    rows = set(re.findall(r"^\| `(?:[\w\[\].]*\.)?(\w+)(?:\[\])*` \|", section, re.MULTILINE))
    schema = json.loads(SCHEMA.read_text("utf-8"))
    del schema["allOf"]  # what holds of the fields for each status; it names them again
    assert rows == set(properties(schema))
