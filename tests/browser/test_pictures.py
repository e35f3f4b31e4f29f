"""The pictures of the documentation, of a site at work."""

import time
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Opener
from tests.browser.shop import Place, Site, order, signup

BYTES_MAX: Final = 200 * 1024
DELIVERED_MILLISECONDS_MAX: Final = 30_000


@pytest.fixture(scope="module")
def place(site: Site) -> Place:
    """The last signup of some minutes of trade."""
    last = Place(0, 0)
    for turn in range(8):
        site.send_many([order(number + turn) for number in range(5 + turn)])
        site.send(order(turn), "returns")
        last = site.send_many([signup(number + turn) for number in range(6)], "signups")[-1]
        time.sleep(1)
    last = site.send(signup(6), "signups", [("traceparent", b"00-4bf92f35-00f067aa-01")])
    site.send_many([order(number) for number in range(9)])
    return last


def delivered(page: Page, site: Site, place: Place) -> None:
    page.goto(f"{site.url}{place.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        2, timeout=DELIVERED_MILLISECONDS_MAX
    )
    expect(page.locator(".badge.from-object").first).to_be_visible()


def take(page: Page, pictures: Path, name: str) -> None:
    expect(page.locator("#about")).to_contain_text("receipts held")
    expect(page.locator(".loading")).to_have_count(0)
    page.mouse.move(0, 0)
    file = pictures / f"inspector-{name}.png"
    page.screenshot(path=file, animations="disabled")
    assert 5_000 < file.stat().st_size <= BYTES_MAX, name


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("", {"scheme": "light"}),
        ("-dark", {"scheme": "dark"}),
        ("-phone", {"scheme": "light", "viewport": PHONE}),
    ],
)
def test_every_page_is_worth_a_picture(
    site: Site,
    open_page: Opener,
    place: Place,
    pictures: Path,
    suffix: str,
    options: dict[str, Any],
) -> None:
    page = open_page(site.url, **options)
    delivered(page, site, place)
    take(page, pictures, f"event{suffix}")
    card = page.locator('details.delivery[data-id="new-signups"]')
    window = card.locator("dt:text-is('Window') + dd a").first.get_attribute("href")
    page.goto(site.url)
    # A few are pending, so that the picture shows them.
    site.send_many([order(number) for number in range(4)])
    site.send_many([signup(number) for number in range(1, 4)], "signups")
    expect(page.locator("tr.event .mark.is-pending").nth(2)).to_be_visible()
    take(page, pictures, f"events{suffix}")
    page.goto(f"{site.url}/destinations")
    expect(page.locator("tr.destination")).to_have_count(4)
    take(page, pictures, f"destinations{suffix}")
    page.goto(f"{site.url}/destinations/new-signups?event={place}")
    page.locator("form.try").get_by_role("button", name="Try").click()
    expect(page.locator(".try-result pre").first).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    take(page, pictures, f"destination{suffix}")
    page.goto(f"{site.url}/destinations/returns-desk")
    expect(page.locator(".panel.alarm")).to_be_visible()
    page.goto(f"{site.url}{window}")
    expect(page.locator("tr.event").first).to_be_visible()
    take(page, pictures, f"window{suffix}")
