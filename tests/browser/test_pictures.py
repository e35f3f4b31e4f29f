"""Tours of every page of a site at work; with `--screenshots`, the documentation's pictures."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Opener, opened_card
from tests.browser.shop import Position, Site, order, signup

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
BYTES_MAX: Final = 200 * 1024
KEPT: Final = {
    *("events", "event", "destinations", "destination", "window"),
    *("events-dark", "events-phone", "event-phone"),
}
"""Pictures that the documentation shows."""
DESK: Final = {"width": 1200, "height": 620}
TURNS: Final = 8
TURNS_OF_PICTURES: Final = 240
"""One a second: charts of the documentation show some minutes."""
DELIVERED_MILLISECONDS_MAX: Final = 120_000

TOURS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "light": ("", {"scheme": "light", "viewport": DESK}),
    "phone": ("-phone", {"scheme": "light", "viewport": PHONE}),
    "dark": ("-dark", {"scheme": "dark", "viewport": DESK}),
}
"""Suffix of the pictures, and options of the page."""

Take = Callable[[Page, str], None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Leave the dark tour to pictures: the scheme changes colors only, which axe checks."""
    if "tour" in metafunc.fixturenames:
        with_dark = metafunc.config.getoption("--screenshots")
        metafunc.parametrize("tour", [it for it in TOURS if it != "dark" or with_dark])


@pytest.fixture(scope="module")
def with_pictures(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--screenshots"))


@pytest.fixture(scope="module")
def position(site: Site, *, with_pictures: bool) -> Position:
    """Position of the last signup of some trade; for pictures, of minutes of it."""
    for turn in range(TURNS_OF_PICTURES if with_pictures else TURNS):
        many = 2 + round(3 * (1 + math.sin(turn / 40)))
        site.send_many([order(number + turn) for number in range(many)])
        site.send_many([signup(number + turn) for number in range(1 + many // 2)], "signups")
        if turn % 97 == 5:
            site.send(order(turn), "returns")
        if with_pictures:
            time.sleep(1)
    last = site.send(signup(6), "signups", [("traceparent", b"00-4bf92f35-00f067aa-01")])
    site.send_many([order(number) for number in range(9)])
    return last


@pytest.fixture
def take(tmp_path: Path, *, with_pictures: bool) -> Take:
    """Take a picture; with `--screenshots`, put it into the documentation."""

    def taken(page: Page, name: str) -> None:
        expect(page.locator("#about")).to_contain_text("in memory")
        expect(page.locator(".loading")).to_have_count(0)
        page.mouse.move(0, 0)
        file = tmp_path / f"inspector-{name}.png"
        page.screenshot(path=file, animations="disabled")
        assert 5_000 < file.stat().st_size <= BYTES_MAX, name
        if name in KEPT and with_pictures:
            shutil.copy(file, IMAGES / file.name)

    return taken


def delivered(page: Page, site: Site, position: Position) -> None:
    page.goto(f"{site.url}{position.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        2, timeout=DELIVERED_MILLISECONDS_MAX
    )
    opened_card(page, "new-signups")
    expect(page.locator(".badge.from-object").first).to_be_visible()


@pytest.mark.timeout(TURNS_OF_PICTURES + 300)
def test_every_page_is_worth_a_picture(
    site: Site, open_page: Opener, position: Position, take: Take, tour: str
) -> None:
    suffix, options = TOURS[tour]
    page = open_page(site.url, **options)
    delivered(page, site, position)
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    take(page, f"event{suffix}")
    card = opened_card(page, "new-signups")
    window = card.locator("dt:text-is('Window') + dd a").first.get_attribute("href")
    page.goto(site.url)
    sent = site.send_many([signup(number) for number in range(1, 12)], "signups")
    sent.append(site.send(order(1), "returns"))
    for it in sent:
        dest = page.locator(f'tr.event[data-id="{it}"] .dest')
        expect(dest).to_be_attached(timeout=DELIVERED_MILLISECONDS_MAX)
        expect(dest.locator(".mark.is-pending")).to_have_count(
            0, timeout=DELIVERED_MILLISECONDS_MAX
        )
    # A few are pending, so that the picture shows them.
    with site.window_held_open():
        for it in site.send_many([order(number) for number in range(4)]):
            pending = page.locator(f'tr.event[data-id="{it}"] .mark.is-pending')
            expect(pending).to_be_visible()
        take(page, f"events{suffix}")
    page.goto(f"{site.url}/destinations")
    expect(page.locator("tr.destination")).to_have_count(4)
    take(page, f"destinations{suffix}")
    page.goto(f"{site.url}/destinations/new-signups?event={position}")
    expect(page.locator(".preview-result pre").first).to_be_visible()
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    take(page, f"destination{suffix}")
    page.goto(f"{site.url}/destinations/returns-desk")
    expect(page.locator(".panel.alarm")).to_be_visible()
    take(page, f"failing{suffix}")
    page.goto(f"{site.url}{window}")
    expect(page.locator("tr.event").first).to_be_visible()
    take(page, f"window{suffix}")
