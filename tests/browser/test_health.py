"""Health strip and states: an outage from its first seconds to its redelivery."""

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, Opener, StartSite
from tests.browser.shop import PICKY, WINDOW_SECONDS, Position, Site, order, signup

DELIVERED_MILLISECONDS_MAX: Final = 120_000
GIVE_UP_SECONDS: Final = 45
SCREENS: Final[dict[str, dict[str, Any]]] = {
    "wide and light": {"scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "narrow and dark": {"scheme": "dark", "viewport": PHONE},
}


@pytest.fixture
def site(start_site: StartSite) -> Iterator[Site]:
    """A site of each test: one breaks a bucket, others the configuration."""
    with start_site(give_up_after_seconds=GIVE_UP_SECONDS, has_archive_of_everything=False) as site:
        yield site


def strip(page: Page) -> Locator:
    return page.get_by_role("region", name="Health")


def vital(page: Page, name: str) -> Locator:
    """A figure of the strip."""
    return strip(page).get_by_role("listitem").filter(has_text=name)


def expect_verdict(page: Page, *texts: str) -> None:
    """The first line of the first screen says these."""
    for text in texts:
        expect(strip(page).locator(".verdict")).to_contain_text(
            text, timeout=DELIVERED_MILLISECONDS_MAX
        )
    expect(strip(page).locator(".verdict strong")).to_be_in_viewport()


@pytest.mark.parametrize("screen", SCREENS)
def test_an_outage_is_on_every_page_from_its_first_seconds_to_its_redelivery(
    site: Site, open_page: Opener, screen: str
) -> None:
    site.send(order(1))
    page = open_page(site.url, **SCREENS[screen])
    expect_verdict(page, "All is delivered")
    expect(vital(page, "Failing")).to_contain_text("none")
    first = site.send(order(2), "returns")
    expect_verdict(page, "1 of 3 destinations fails", "returns-desk: NoSuchBucket")
    expect(vital(page, "S3")).to_contain_text("fails for 1")
    for path in (first.path, "/destinations", "/destinations/orders-archive"):
        page.goto(f"{site.url}{path}")
        expect_verdict(page, "1 of 3 destinations fails")
    # By keyboard alone: the verdict leads to what is wrong.
    page.keyboard.press("d")
    strip(page).locator(".verdict").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("returns-desk")
    alarm = page.get_by_role("region", name="What is wrong")
    expect(alarm).to_be_in_viewport()
    expect(page.locator(".state-box .outcome").first).to_contain_text(
        re.compile("retrying for|given up")
    )
    # A window that is due once the destination counts as broken is not tried itself.
    waiting = page.locator("tr.window", has_text="waiting behind the window of")
    deadline = time.monotonic() + DELIVERED_MILLISECONDS_MAX / 1000
    while waiting.count() == 0:
        assert time.monotonic() < deadline
        site.send(order(3), "returns")
        page.wait_for_timeout(WINDOW_SECONDS * 1000)
    expect(waiting.first).not_to_contain_text("http")
    expect(page.locator(".state-box")).to_contain_text(
        re.compile(r"\d windows given up"), timeout=DELIVERED_MILLISECONDS_MAX
    )
    late = page.locator("tr.window .status").filter(has_text=re.compile("retrying|waiting"))
    expect(late).to_have_count(0, timeout=DELIVERED_MILLISECONDS_MAX)
    expect(page.locator("tr.window .number").first).to_contain_text("0/")
    expect(alarm).to_contain_text("NoSuchBucket")
    command = alarm.locator(".command code").inner_text()
    alarm.get_by_role("button", name="Copy the command").click()
    page.wait_for_function(
        "text => navigator.clipboard.readText().then(it => it === text)", arg=command
    )
    page.goto(f"{site.url}/destinations")
    row = page.locator("tr.destination").first
    expect(row).to_contain_text("returns-desk")
    expect(row.locator(".cause")).to_contain_text("NoSuchBucket")
    expect(row.locator(".cause")).to_be_in_viewport()
    site.lab.s3.create_bucket(site.lab.late_bucket)
    site.redeliver(*command.split()[2:])
    expect_verdict(page, "All is delivered")
    expect(page.locator("tr.destination .state .is-failed")).to_have_count(0)
    page.goto(f"{site.url}{first.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(1)
    expect(page.locator(".event-error")).to_have_count(0)


def test_events_that_no_destination_takes_are_counted_and_listed(
    site: Site, open_page: Opener
) -> None:
    page = open_page(site.url)
    site.send(order(1))
    lost = site.send(order(2), "ordres")
    expect_verdict(page, "1 event without a destination", "nearest pipeline: 'orders'")
    strip(page).locator(".verdict").click()
    expect(page.get_by_label("Outcome")).to_have_value("unmatched")
    expect(page.locator("tr.event")).to_have_count(1)
    expect(page.locator(f'tr.event[data-id="{lost}"]')).to_contain_text("no destination")
    page.locator("tr.event .row-link").click()
    expect(page.locator(".panel.alarm")).to_contain_text("nearest pipeline: 'orders'")


def test_a_configuration_that_is_not_taken_is_on_every_page(site: Site, open_page: Opener) -> None:
    text = site.lab.configuration.read_text("utf-8")
    page = open_page(f"{site.url}/destinations")
    site.lab.configuration.write_text(f'{text}\nbuckt = "x"\n', "utf-8")
    expect_verdict(page, "The changed configuration is not taken", "did you mean bucket?")
    expect(vital(page, "Configuration")).to_contain_text("not taken")
    site.lab.configuration.write_text(text, "utf-8")
    expect(strip(page)).not_to_contain_text("not taken", timeout=DELIVERED_MILLISECONDS_MAX)


@pytest.fixture
def failing(site: Site) -> list[Position]:
    """Signups that fail, among some that do not."""
    sent = {number: site.send(signup(number), "signups") for number in range(1, 25)}
    site.send_many([order(number) for number in range(5)])
    return [it for number, it in sent.items() if number % 7 == 3 and number % 4 != 0]


def test_failed_leads_to_the_failed_events_and_their_errors(
    site: Site, open_page: Opener, failing: list[Position]
) -> None:
    page = open_page(f"{site.url}/destinations")
    row = page.locator("tr.destination", has_text="new-signups")
    expect(row).to_contain_text("degraded", timeout=DELIVERED_MILLISECONDS_MAX)
    link = row.locator("td.failed a")
    expect(link).to_have_text(str(len(failing)), timeout=DELIVERED_MILLISECONDS_MAX)
    link.click()
    rows = page.locator("tr.event")
    expect(rows).to_have_count(len(failing))
    shown = rows.evaluate_all("all => all.map(it => it.dataset.id)")
    assert set(shown) == set(map(str, failing))
    assert "outcome=failed" in page.url
    assert "destination=new-signups" in page.url
    errors = page.get_by_role("region", name="Errors")
    expect(errors.locator("li")).to_have_count(1)
    expect(errors.locator(".error-count")).to_have_text(str(len(failing)))
    expect(errors).to_contain_text("TypeError: cannot read property 'toLowerCase'")
    expect(page.get_by_label("Outcome").locator("option:checked")).to_contain_text(
        f"Failed ({len(failing)})"
    )
    page.reload()
    expect(rows).to_have_count(len(failing))
    errors.get_by_role("link", name="last").click()
    expect(page.locator(".event-error")).to_contain_text("TypeError")
    expect(page.locator("main").get_by_text("TypeError: cannot read")).to_have_count(1)


def test_a_page_of_a_degraded_destination_leads_to_one_truth_after_redelivery(
    site: Site, open_page: Opener, failing: list[Position]
) -> None:
    page = open_page(f"{site.url}/destinations/new-signups")
    alarm = page.get_by_role("region", name="What is wrong")
    expect(alarm).to_contain_text(
        f"{len(failing)} events failed in the last hour", timeout=DELIVERED_MILLISECONDS_MAX
    )
    # The editor has the last failing event, and its preview.
    page.reload()
    expect(page.get_by_label("partition@offset")).to_have_value(
        re.compile("|".join(f"^{it}$" for it in failing))
    )
    expect(page.locator(".preview-result")).to_contain_text("would fail")
    command = alarm.locator(".command code").inner_text()
    assert "--failed-events" in command
    text = site.lab.configuration.read_text("utf-8")
    fixed = PICKY.replace("plan.toLowerCase", "plan?.toLowerCase")
    assert fixed != PICKY
    site.lab.configuration.write_text(text.replace(PICKY, fixed), "utf-8")
    site.redeliver(*command.split()[2:])
    expect(page.locator(".state-box")).to_contain_text(
        "delivering", timeout=DELIVERED_MILLISECONDS_MAX
    )
    expect(alarm).to_have_count(0)
    expect(page.locator(".errors-part li")).to_have_count(0)
    expect(page.locator(".chart-readout")).to_contain_text(", 0 failed")
    expect(page.locator("tr.window strong.is-failed")).to_have_count(0)
    expect(page.locator("tr.window .status").filter(has_text="2 objects").first).to_be_visible()


def test_times_are_in_one_zone_on_every_page_and_one_switch_changes_it(
    site: Site, open_page: Opener
) -> None:
    position = site.send(order(1))
    page = open_page(site.url, timezone_id="Asia/Kolkata")
    shown = page.locator(f'tr.event[data-id="{position}"] time')
    expect(shown).to_be_visible()
    sent = str(shown.get_attribute("datetime"))
    local = page.evaluate("sent => new Date(sent).toTimeString().slice(0, 8)", sent)
    expect(shown).to_contain_text(local)
    expect(page.locator("table.events th").first).to_have_text("Time, UTC+5:30")
    expect(page.locator("#about")).to_contain_text("times in UTC+5:30")
    page.get_by_role("button", name="Times in UTC+5:30").click()
    expect(shown).to_contain_text(sent[11:23])
    expect(page.locator("table.events th").first).to_have_text("Time, UTC")
    page.goto(f"{site.url}{position.path}")
    expect(page.locator(f'time[datetime="{sent}"]')).to_contain_text(sent[11:23])
    page.keyboard.press("z")
    expect(page.locator(f'time[datetime="{sent}"]')).to_contain_text(local)
    # A view that is sent to a colleague has the zone of its times.
    page.goto(f"{site.url}/?since={sent}&zone=utc")
    expect(page.locator("tr.event")).to_have_count(1)
    expect(page.get_by_label("From")).to_have_value(f"{sent[:10]} {sent[11:23]}")
    expect(page.get_by_role("button", name="Times in UTC;")).to_be_visible()


def test_a_time_range_shows_its_events_only(site: Site, open_page: Opener) -> None:
    position = site.send(order(1))
    page = open_page(site.url)
    expect(page.locator("tr.event")).to_have_count(1)
    page.get_by_role("combobox", name="Time").select_option("15m")
    expect(page.locator(f'tr.event[data-id="{position}"]')).to_be_visible()
    expect(page.locator(".live-state")).to_have_text("Live")
    assert "since=15m" in page.url
    page.get_by_role("combobox", name="Time").select_option("custom")
    page.get_by_label("From").fill("yesterday")
    page.get_by_label("From").press("Enter")
    message = page.get_by_label("From").evaluate("it => it.validationMessage")
    assert "15m ago" in message
    page.get_by_label("From").fill("1d")
    page.get_by_label("Up to").fill("1h")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".list-foot")).to_contain_text("No events in this time range.")
