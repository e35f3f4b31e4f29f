"""Keyboard, screen reader, phone, both themes."""

from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Opener, opened_card
from tests.browser.shop import Position, Site, order, signup

DELIVERED_MILLISECONDS_MAX = 120_000
SERIOUS = {"serious", "critical"}
Scheme = Literal["light", "dark"]
SCHEMES: Final[dict[Scheme, dict[str, Any]]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {
        "resultTypes": ["violations"],
        "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
    },
}
"""Options of axe. Only its color rules depend on the scheme."""


@pytest.fixture(scope="module")
def position(site: Site) -> Position:
    """Position of the last signup of a window in which some were skipped and some failed."""
    positions = site.send_many([signup(number) for number in range(301, 315)], "signups")
    site.send(order(1), "returns")
    return positions[-1]


def paths(site: Site, page: Page, position: Position) -> dict[str, str]:
    """Return one address of every kind of page."""
    page.goto(f"{site.url}{position.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        2, timeout=DELIVERED_MILLISECONDS_MAX
    )
    card = opened_card(page, "new-signups")
    window = card.locator("dt:text-is('Window') + dd a").first.get_attribute("href")
    assert window is not None
    return {
        "events": "/",
        "search": "/?search=example",
        "event": position.path,
        "destinations": "/destinations",
        "destination": "/destinations/returns-desk",
        "window": window,
        "missing": "/no/such/page",
    }


def serious(page: Page, scheme: Scheme) -> list[Any]:
    """Return the serious findings of the rules that a scheme is checked by."""
    return [
        (it["id"], it["impact"], [node["html"][:200] for node in it["nodes"]][:5])
        for it in Axe().run(page, options=SCHEMES[scheme]).response["violations"]
        if it["impact"] in SERIOUS
    ]


def open_settled(page: Page, url: str) -> None:
    """Open a page and wait until it has loaded its data."""
    page.goto(url)
    expect(page.locator(".loading")).to_have_count(0)
    expect(page.locator("#about")).to_contain_text("in memory")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_problem_on_any_page(
    site: Site, open_page: Opener, position: Position, scheme: Scheme
) -> None:
    page = open_page(site.url, scheme=scheme)
    found = {}
    for name, path in paths(site, page, position).items():
        open_settled(page, f"{site.url}{path}")
        found[name] = serious(page, scheme)
        if name == "event":
            page.get_by_role("tab", name="Delivery report").first.click()
            page.get_by_text("Full receipt").first.click()
            found["response"] = serious(page, scheme)
    page.keyboard.press("?")
    found["shortcuts"] = serious(page, scheme)
    assert {name: it for name, it in found.items() if it} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_narrow_screen_scrolls_only_up_and_down(
    site: Site, open_page: Opener, position: Position, scheme: Scheme
) -> None:
    page = open_page(site.url, scheme=scheme, viewport=PHONE)
    wide = {}
    for name, path in paths(site, page, position).items():
        open_settled(page, f"{site.url}{path}")
        sizes = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if sizes[0] > sizes[1]:
            wide[name] = sizes
        assert serious(page, scheme) == []
    assert wide == {}


@pytest.mark.usefixtures("position")
def test_everything_works_by_keyboard_alone(site: Site, open_page: Opener) -> None:
    page = open_page(site.url)
    expect(page.locator("tr.event").first).to_be_visible()
    keys = page.keyboard
    keys.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    keys.press("Enter")
    expect(page.locator("main")).to_be_focused()
    keys.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    keys.type("person-314")
    expect(page.locator("tr.event")).to_have_count(1)
    keys.press("Escape")
    for _ in range(12):
        keys.press("Tab")
        if page.evaluate("document.activeElement.matches('.row-link')"):
            break
    expect(page.locator(".row-link:focus")).to_have_count(1)
    outline = page.locator(".row-link:focus").evaluate(
        "it => getComputedStyle(it, '::after').outlineStyle"
    )
    assert outline == "solid"
    keys.press("Enter")
    expect(page.locator("h1")).to_contain_text("PUT /signups/314")
    expect(page.locator("main")).to_be_focused()
    while not page.evaluate("document.activeElement.matches('[role=tab]:is(.delivery *)')"):
        keys.press("Tab")
    keys.press("ArrowRight")
    expect(page.locator(".delivery [role=tab]:focus")).to_have_text("Delivery report")
    while not page.evaluate("document.activeElement.matches('[role=treeitem]')"):
        keys.press("Tab")
    keys.press("ArrowDown")
    keys.press("c")
    expect(page.locator("#status")).to_contain_text("Copied $event.method")
    keys.press("d")
    expect(page.locator("h1")).to_have_text("Destinations")
    keys.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    keys.press("e")
    expect(page.locator(".live-state")).to_have_text("Live")
    keys.press("p")
    expect(page.locator(".live-state")).to_have_text("Paused")


def test_a_chosen_theme_is_kept(site: Site, open_page: Opener) -> None:
    page = open_page(site.url, scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) == "rgb(15, 18, 23)"
    page.reload()
    assert page.evaluate(ground) == "rgb(15, 18, 23)"


def test_single_key_shortcuts_can_be_switched_off(site: Site, open_page: Opener) -> None:
    page = open_page(site.url)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Single-key shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator("h1")).to_have_text("Events")


def test_nothing_moves_with_reduced_motion(site: Site, open_page: Opener) -> None:
    page = open_page(site.url, reduced_motion="reduce")
    sent = site.send(order(3))
    row = page.locator(f'tr.event[data-id="{sent}"]')
    expect(row.locator(".dest .visually-hidden")).to_have_text(
        "2 of 2 delivered", timeout=DELIVERED_MILLISECONDS_MAX
    )
    assert row.evaluate("it => getComputedStyle(it).animationName") == "none"
