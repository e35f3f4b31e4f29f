"""Data of events stays text: it runs nothing, links nowhere and breaks no page."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.browser.shop import Position, Site

MARK = "window.wasRun = true"
SCRIPTS = {
    "image": f"<img src=x onerror='{MARK}'>",
    "script": f"</script><script>{MARK}</script>",
    "svg": f"<svg onload='{MARK}'><use href='data:image/svg+xml,x'/></svg>",
    "link": f"javascript:{MARK}",
    "template": "{{constructor.constructor('" + MARK + "')()}}",
    "attribute": f'" autofocus onfocus="{MARK}',
    "style": "</style><style>body{display:none}</style>",
    "comment": "--><iframe srcdoc='<script>parent.wasRun=true</script>'>",
}
LIVE_MILLISECONDS_MAX = 60_000
DELIVERED_MILLISECONDS_MAX = 120_000
NAMES = (
    b'{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": 1}}, '
    b'"toString": "x", "hasOwnProperty": 1, "length": -1, "then": "x", "valueOf": null}'
)
BIDIRECTIONAL = "user\u202egpj.exe\u2066 \u200b\x00\x1b[31m\ufeff end"
LEVELS = 900
LONG = {"long": "word " * 180_000}


@pytest.fixture(scope="module")
def positions(site: Site) -> dict[str, Position]:
    """All hostile events, sent at once, so that the tests wait for one window together."""
    sent = {
        "names": site.send(NAMES),
        "bidirectional": site.send(
            {"method": "GET", "url": BIDIRECTIONAL, "body": {BIDIRECTIONAL: BIDIRECTIONAL}},
            BIDIRECTIONAL,
        ),
        "10,000 levels": site.send(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        "levels": site.send(b'{"a":' * LEVELS + b"1" + b"}" * LEVELS),
        "long": site.send(LONG),
        "wide": site.send({f"name-{number}": number for number in range(50_000)}),
    }
    for name, text in SCRIPTS.items():
        event = {"method": "POST", "url": text, "path": text, text: text, "body": {text: [text]}}
        sent[name] = site.send(event, text, [(text, text.encode())])
    return sent


def check_every_page(page: Page, site: Site, position: Position) -> None:
    """Open all of an event on every page that shows it: it runs nothing and links nowhere."""
    page.goto(site.url)
    expect(page.locator(f'tr.event[data-id="{position}"]')).to_be_visible(
        timeout=LIVE_MILLISECONDS_MAX
    )
    page.locator(f'tr.event[data-id="{position}"] .dest').hover()
    page.goto(f"{site.url}{position.path}")
    expect(page.locator("details.delivery").first).to_be_visible()
    expect(page.locator("details.delivery.is-pending")).to_have_count(
        0, timeout=DELIVERED_MILLISECONDS_MAX
    )
    for summary in page.locator("summary").all():
        if summary.is_visible() and not summary.evaluate("it => it.parentNode.open"):
            summary.click()
    for name in ("Text", "Delivery report"):
        for tab in page.get_by_role("tab", name=name).all():
            if tab.is_visible():
                tab.click()
    window = page.locator("dt:text-is('Window') + dd a").first
    if window.count():
        window.click()
        expect(page.locator(".window-view tr.event").first).to_be_visible()
    assert page.evaluate("window.wasRun") is None
    assert (
        page.locator("iframe, object, embed, base, main img, main style, main script").count() == 0
    )
    hrefs = page.locator("main a[href]").evaluate_all(
        "all => all.map(it => it.getAttribute('href'))"
    )
    assert all(it.startswith(("/", "#")) for it in hrefs), hrefs


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_markup_in_values_names_paths_keys_and_headers_never_runs(
    site: Site, open_page: Opener, positions: dict[str, Position], name: str
) -> None:
    check_every_page(open_page(site.url), site, positions[name])


def test_names_with_a_meaning_in_javascript_are_names(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    page = open_page(f"{site.url}{positions['names'].path}")
    tree = page.locator(".event-body [role=tree]")
    expect(tree).to_contain_text("__proto__")
    expect(tree).to_contain_text("hasOwnProperty")
    assert page.evaluate("({}).polluted") is None
    check_every_page(page, site, positions["names"])


def test_characters_that_change_the_direction_of_text_are_shown_as_escapes(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    position = positions["bidirectional"]
    page = open_page(f"{site.url}{position.path}")
    expect(page.locator(".event-body [role=tree]")).to_contain_text("user\\u202egpj.exe\\u2066")
    check_every_page(page, site, position)
    for path in ("/", position.path):
        page.goto(f"{site.url}{path}")
        expect(page.locator("body")).to_contain_text("\\u202e")
        shown = page.locator("body").inner_text()
        assert not set(shown) & set("\u202e\u2066\u200b\x1b\ufeff")


def test_ten_thousand_levels_open_level_by_level(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    position = positions["10,000 levels"]
    page = open_page(f"{site.url}{position.path}")
    expect(page.locator(".event-body")).to_be_visible()
    expect(page.locator(".event-body .node, .event-body pre").first).to_be_visible()
    check_every_page(page, site, position)


def test_nine_hundred_levels_are_a_tree_that_expands(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    page = open_page(f"{site.url}{positions['levels'].path}")
    page.get_by_role("button", name="Expand all").click()
    expect(page.locator(".event-body .node")).to_have_count(LEVELS + 1)
    last = page.locator(".event-body .node").last
    expect(last).to_have_attribute("aria-level", str(LEVELS + 1))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_string_of_a_megabyte_is_cut_and_copied_in_full(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    position = positions["long"]
    page = open_page(f"{site.url}{position.path}")
    shown = page.locator(".event-body .node").nth(1)
    expect(shown).to_contain_text("900,000 characters")
    assert page.locator(".event-body").evaluate("it => it.textContent.length") < 3_000
    shown.locator(".key").click()
    page.get_by_role("button", name="Value the value of the selected node").click()
    page.wait_for_function(
        "length => navigator.clipboard.readText().then(it => it.length === length)",
        arg=len(json.dumps(LONG["long"])),
    )
    shown.get_by_role("button", name="show more").click()
    expect(shown).to_contain_text("more: “Value” copies the full text")
    check_every_page(page, site, position)


def test_fifty_thousand_names_are_shown_two_hundred_at_a_time(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    position = positions["wide"]
    page = open_page(f"{site.url}{position.path}")
    nodes = page.locator(".event-body .node")
    expect(nodes).to_have_count(1 + 200 + 1)
    expect(nodes.first).to_contain_text("50,000 members")
    nodes.last.click()
    expect(nodes).to_have_count(1 + 400 + 1)
    check_every_page(page, site, position)
