"""Whatever an event holds stays text: it runs nothing, links nowhere and breaks no page."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.browser.shop import Place, Site

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
LIVE_MILLISECONDS_MAX = 10_000
DELIVERED_MILLISECONDS_MAX = 30_000


def everywhere(page: Page, site: Site, place: Place) -> None:
    """Look at an event on every page that shows it, all of it opened."""
    page.goto(site.url)
    expect(page.locator(f'tr.event[data-id="{place}"]')).to_be_visible(
        timeout=LIVE_MILLISECONDS_MAX
    )
    page.locator(f'tr.event[data-id="{place}"] .dest').hover()
    page.goto(f"{site.url}{place.path}")
    expect(page.locator("details.delivery").first).to_be_visible()
    expect(page.locator("details.delivery.is-pending")).to_have_count(
        0, timeout=DELIVERED_MILLISECONDS_MAX
    )
    for summary in page.locator("summary").all():
        if summary.is_visible() and not summary.evaluate("it => it.parentNode.open"):
            summary.click()
    for name in ("Text", "Response"):
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
    site: Site, open_page: Opener, name: str
) -> None:
    text = SCRIPTS[name]
    event = {"method": "POST", "url": text, "path": text, text: text, "body": {text: [text]}}
    place = site.send(event, text, [(text, text.encode())])
    everywhere(open_page(site.url), site, place)


def test_names_that_mean_something_to_javascript_are_names(site: Site, open_page: Opener) -> None:
    raw = (
        b'{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": 1}}, '
        b'"toString": "x", "hasOwnProperty": 1, "length": -1, "then": "x", "valueOf": null}'
    )
    place = site.send(raw)
    page = open_page(f"{site.url}{place.path}")
    tree = page.locator(".event-body [role=tree]")
    expect(tree).to_contain_text("__proto__")
    expect(tree).to_contain_text("hasOwnProperty")
    assert page.evaluate("({}).polluted") is None
    everywhere(page, site, place)


def test_characters_that_turn_text_around_are_written_out(site: Site, open_page: Opener) -> None:
    hostile = "user\u202egpj.exe\u2066 \u200b\x00\x1b[31m\ufeff end"
    place = site.send({"method": "GET", "url": hostile, "body": {hostile: hostile}}, hostile)
    page = open_page(f"{site.url}{place.path}")
    expect(page.locator(".event-body [role=tree]")).to_contain_text("user\\u202egpj.exe\\u2066")
    everywhere(page, site, place)
    for path in ("/", place.path):
        page.goto(f"{site.url}{path}")
        expect(page.locator("body")).to_contain_text("\\u202e")
        shown = page.locator("body").inner_text()
        assert not set(shown) & set("\u202e\u2066\u200b\x1b\ufeff")


def test_ten_thousand_levels_open_level_by_level(site: Site, open_page: Opener) -> None:
    place = site.send(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    page = open_page(f"{site.url}{place.path}")
    expect(page.locator(".event-body")).to_be_visible()
    expect(page.locator(".event-body .node, .event-body pre").first).to_be_visible()
    everywhere(page, site, place)


def test_a_thousand_levels_are_a_tree_that_expands(site: Site, open_page: Opener) -> None:
    levels = 900
    place = site.send(b'{"a":' * levels + b"1" + b"}" * levels)
    page = open_page(f"{site.url}{place.path}")
    page.get_by_role("button", name="Expand all").click()
    expect(page.locator(".event-body .node")).to_have_count(levels + 1)
    last = page.locator(".event-body .node").last
    expect(last).to_have_attribute("aria-level", str(levels + 1))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_string_of_a_megabyte_is_cut_and_copied_whole(site: Site, open_page: Opener) -> None:
    text = "word " * 180_000
    place = site.send({"long": text})
    page = open_page(f"{site.url}{place.path}")
    shown = page.locator(".event-body .node").nth(1)
    expect(shown).to_contain_text("900,000 characters")
    assert page.locator(".event-body").evaluate("it => it.textContent.length") < 3_000
    shown.locator(".key").click()
    page.get_by_role("button", name="Value the value of the chosen node").click()
    page.wait_for_function(
        "length => navigator.clipboard.readText().then(it => it.length === length)",
        arg=len(json.dumps(text)),
    )
    shown.get_by_role("button", name="show more").click()
    expect(shown).to_contain_text("more: “Value” copies all of it")
    everywhere(page, site, place)


def test_fifty_thousand_names_come_two_hundred_at_a_time(site: Site, open_page: Opener) -> None:
    place = site.send({f"name-{number}": number for number in range(50_000)})
    page = open_page(f"{site.url}{place.path}")
    nodes = page.locator(".event-body .node")
    expect(nodes).to_have_count(1 + 200 + 1)
    expect(nodes.first).to_contain_text("50,000 members")
    nodes.last.click()
    expect(nodes).to_have_count(1 + 400 + 1)
    everywhere(page, site, place)
