"""The pictures of the documentation, of a site at work."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Opener
from tests.browser.shop import Place, Site, order, signup

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
BYTES_MAX: Final = 200 * 1024
KEPT: Final = {
    *("events", "event", "destinations", "destination", "window"),
    *("events-dark", "events-phone", "event-phone"),
}
"""Those that the documentation shows."""
DESK: Final = {"width": 1200, "height": 720}
TRADE_SECONDS: Final = 8
TRADE_SECONDS_OF_PICTURES: Final = 720
"""For charts with something on them."""
DELIVERED_MILLISECONDS_MAX: Final = 30_000

Take = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def trade_seconds(request: pytest.FixtureRequest) -> int:
    pictures = request.config.getoption("--screenshots")
    return TRADE_SECONDS_OF_PICTURES if pictures else TRADE_SECONDS


@pytest.fixture(scope="module")
def place(site: Site, trade_seconds: int) -> Place:
    """The last signup of some minutes of trade."""
    for turn in range(trade_seconds):
        many = 2 + round(3 * (1 + math.sin(turn / 40)))
        site.send_many([order(number + turn) for number in range(many)])
        site.send_many([signup(number + turn) for number in range(1 + many // 2)], "signups")
        if turn % 97 == 5:
            site.send(order(turn), "returns")
        time.sleep(1)
    last = site.send(signup(6), "signups", [("traceparent", b"00-4bf92f35-00f067aa-01")])
    site.send_many([order(number) for number in range(9)])
    return last


@pytest.fixture
def take(request: pytest.FixtureRequest, tmp_path: Path) -> Take:
    """Take a picture; with `--screenshots` put it into the documentation."""

    def taken(page: Page, name: str) -> None:
        expect(page.locator("#about")).to_contain_text("receipts held")
        expect(page.locator(".loading")).to_have_count(0)
        page.mouse.move(0, 0)
        file = tmp_path / f"inspector-{name}.png"
        page.screenshot(path=file, animations="disabled")
        assert 5_000 < file.stat().st_size <= BYTES_MAX, name
        if name in KEPT and request.config.getoption("--screenshots"):
            shutil.copy(file, IMAGES / file.name)

    return taken


def delivered(page: Page, site: Site, place: Place) -> None:
    page.goto(f"{site.url}{place.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        2, timeout=DELIVERED_MILLISECONDS_MAX
    )
    expect(page.locator(".badge.from-object").first).to_be_visible()


@pytest.mark.timeout(TRADE_SECONDS_OF_PICTURES + 300)
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("", {"scheme": "light", "viewport": DESK}),
        ("-dark", {"scheme": "dark", "viewport": DESK}),
        ("-phone", {"scheme": "light", "viewport": PHONE}),
    ],
)
def test_every_page_is_worth_a_picture(
    site: Site, open_page: Opener, place: Place, take: Take, suffix: str, options: dict[str, Any]
) -> None:
    page = open_page(site.url, **options)
    delivered(page, site, place)
    take(page, f"event{suffix}")
    card = page.locator('details.delivery[data-id="new-signups"]')
    window = card.locator("dt:text-is('Window') + dd a").first.get_attribute("href")
    page.goto(site.url)
    site.send_many([signup(number) for number in range(1, 12)], "signups")
    site.send(order(1), "returns")
    newest = page.locator("tr.event .dest")
    expect(newest.locator(".is-failed").nth(1)).to_be_attached(timeout=DELIVERED_MILLISECONDS_MAX)
    # A few are pending, so that the picture shows them.
    site.window_begins()
    site.send_many([order(number) for number in range(4)])
    expect(newest.locator(".mark.is-pending").first).to_be_visible()
    take(page, f"events{suffix}")
    page.goto(f"{site.url}/destinations")
    expect(page.locator("tr.destination")).to_have_count(4)
    take(page, f"destinations{suffix}")
    page.goto(f"{site.url}/destinations/new-signups?event={place}")
    page.locator("form.try").get_by_role("button", name="Try").click()
    expect(page.locator(".try-result pre").first).to_be_visible()
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    take(page, f"destination{suffix}")
    page.goto(f"{site.url}/destinations/returns-desk")
    expect(page.locator(".panel.alarm")).to_be_visible()
    take(page, f"failing{suffix}")
    page.goto(f"{site.url}{window}")
    expect(page.locator("tr.event").first).to_be_visible()
    take(page, f"window{suffix}")
