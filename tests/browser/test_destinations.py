"""Destinations, their windows, and the preview of an expression."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener, opened_card
from tests.browser.shop import Position, Site, order, signup

DELIVERED_MILLISECONDS_MAX = 120_000


@pytest.fixture(scope="module")
def ordered(site: Site) -> Position:
    """An order, sent before the first test."""
    return site.send(order(1))


@pytest.fixture(scope="module")
def last_signup(site: Site) -> Position:
    """The last of four signups in one window."""
    return site.send_many([signup(number) for number in (3, 4, 5, 6)], "signups")[-1]


def delivered(page: Page, site: Site, position: Position, count: int) -> None:
    page.goto(f"{site.url}{position.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        count, timeout=DELIVERED_MILLISECONDS_MAX
    )


@pytest.mark.usefixtures("last_signup")
def test_destinations_show_their_last_hour_as_charts_and_as_text(
    site: Site, page: Page, ordered: Position
) -> None:
    delivered(page, site, ordered, 2)
    page.get_by_role("link", name="Destinations", exact=True).click()
    row = page.locator("tr.destination", has_text="orders-archive")
    expect(row.locator(".state")).to_have_text("delivering")
    charts = row.get_by_role("img")
    expect(charts).to_have_count(1)
    description = charts.first.get_attribute("aria-label") or ""
    assert description.startswith("Events by minute in the last hour: ")
    assert row.locator(".spark .bars").first.get_attribute("d")
    page.get_by_role("searchbox").fill("signups")
    expect(page.locator("tr.destination")).to_have_count(1)


def test_a_destinations_page_has_its_numbers_and_its_windows(
    site: Site, page: Page, ordered: Position
) -> None:
    delivered(page, site, ordered, 2)
    page.goto(f"{site.url}/destinations/orders-archive")
    expect(page.locator("figure.chart")).to_have_count(1)
    expect(page.locator("figure.chart")).to_contain_text(
        re.compile(r"In the hour: [1-9]\d* delivered, \d+ skipped, 0 failed")
    )
    page.get_by_text("Numbers as a table").click()
    expect(page.locator("table.plain tbody tr")).to_have_count(60)
    page.locator("tr.window .row-link").first.click()
    expect(page.locator("h1")).to_contain_text("Window")
    expect(page.locator(".object-name code")).to_contain_text(f"s3://{site.lab.bucket}/orders/")


def test_a_policy_is_shown_only_when_it_is_known_who_writes(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/destinations/orders-archive")
    page.get_by_role("tab", name="Bucket policy").click()
    section = page.get_by_role("region", name="Bucket policy", exact=True)
    principal = section.get_by_label("ARN of the role, user or account")
    expect(principal).to_be_visible()
    expect(section.get_by_role("button", name="Copy")).to_have_count(0)
    expect(section.locator("pre")).to_have_count(0)
    # What the field shows as its form is no principal.
    principal.fill(principal.get_attribute("placeholder") or "")
    principal.press("Enter")
    expect(section.get_by_role("alert")).to_contain_text("the principal is 'arn:aws:iam::ACCOUNT")
    expect(section.get_by_role("button", name="Copy")).to_have_count(0)
    role = "arn:aws:iam::999999999999:role/writer"
    principal.fill(role)
    section.get_by_role("button", name="Show the policy").click()
    section.get_by_role("button", name="Copy").click()
    page.wait_for_function("() => navigator.clipboard.readText().then(it => it.startsWith('{'))")
    policy = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert {it["Principal"]["AWS"] for it in policy["Statement"]} == {role}
    resources = [it for statement in policy["Statement"] for it in statement["Resource"]]
    assert f"arn:aws:s3:::{site.lab.bucket}/orders/*" in resources


def test_a_window_lists_its_events_with_their_lines(
    site: Site, page: Page, last_signup: Position
) -> None:
    delivered(page, site, last_signup, 2)
    card = opened_card(page, "new-signups")
    card.locator("dt:text-is('Window') + dd a").first.click()
    rows = page.locator("tr.event")
    expect(rows.first).to_be_visible()
    key = page.locator(".object-name code").inner_text().split(f"{site.lab.bucket}/", 1)[1]
    shown = page.locator(f'tr.event:has(a[href="{last_signup.path}"])')
    line = int(shown.locator(".line").inner_text())
    sent = json.loads(site.line(site.lab.bucket, key, line))
    assert sent["email"] == "person-6@example.com"


def test_an_expression_is_previewed_on_an_event_of_the_topic(site: Site, page: Page) -> None:
    position = site.send(signup(1), "signups")
    page.goto(f"{site.url}{position.path}")
    card = opened_card(page, "new-signups")
    card.get_by_role("link", name="Try it").click()
    box = page.locator("form.preview")
    expect(box.get_by_label("JavaScript expression")).to_have_value(
        "$event.body.test ? undefined : {\n  email: $event.body.email,\n"
        "  plan: $event.body.plan.toLowerCase(),\n}"
    )
    expect(box.get_by_label("partition@offset")).to_have_value(str(position))
    # It runs at once, and stands beside the editor.
    result = page.locator(".preview-result")
    expect(result).to_contain_text("would be delivered")
    expect(result).to_be_in_viewport()
    expect(result.locator("pre").first).to_have_text(
        '{"email":"person-1@example.com","plan":"team"}'
    )


def test_an_expression_is_previewed_on_json(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/destinations/new-signups")
    box, result = page.locator("form.preview"), page.locator(".preview-result")
    box.get_by_text("JSON", exact=True).click()
    box.get_by_label("The event as JSON").fill('{"body": {"test": true}}')
    box.get_by_role("button", name="Try").click()
    expect(result).to_contain_text("would be skipped")
    box.get_by_label("The event as JSON").fill('{"body": {"email": "a"}}')
    box.get_by_label("The event as JSON").press("Control+Enter")
    expect(result).to_contain_text("would fail")
    expect(result).to_contain_text("TypeError")
    box.get_by_label("JavaScript expression").fill("$event.body.email")
    box.get_by_role("button", name="Try").click()
    expect(result.locator("pre").first).to_have_text('"a"')
    box.get_by_label("JavaScript expression").fill("$event.(")
    box.get_by_role("button", name="Try").click()
    expect(result).to_contain_text("would fail")
    box.get_by_label("JavaScript expression").fill("")
    box.get_by_role("button", name="Try").click()
    expect(result).to_contain_text("Enter an expression")


def test_of_a_thousand_destinations_those_that_fail_are_on_top(
    site: Site, open_page: Opener, tmp_path: Path
) -> None:
    many = tmp_path / "many.toml"
    more = "".join(
        f'[[destinations]]\nid = "team-{it}"\nbucket = "{site.lab.bucket}"\n'
        f'prefix = "team-{it}/"\npipeline = "team-{it}"\n'
        for it in range(1_000)
    )
    many.write_text(site.lab.configuration.read_text("utf-8") + more, "utf-8")
    inspector = site.start_inspector("--config", str(many))
    site.send(order(1), "returns")
    page = open_page(f"{inspector.url}/destinations")
    rows = page.locator("tr.destination")
    expect(rows.first).to_contain_text("returns-desk", timeout=DELIVERED_MILLISECONDS_MAX)
    expect(rows.first.locator(".cause")).to_contain_text("NoSuchBucket")
    expect(page.locator(".list-foot")).to_have_text("1,000 of 1,004: search to find the others.")
    heads = page.locator("table.destinations thead")
    rows.nth(700).scroll_into_view_if_needed()
    expect(heads).to_be_in_viewport()
    page.get_by_role("searchbox").fill("team-77")
    expect(rows).to_have_count(11)
    expect(page).to_have_url(re.compile("search=team-77$"))
    page.get_by_label("State").select_option("quiet")
    expect(rows).to_have_count(11)
    page.reload()
    expect(page.get_by_label("State")).to_have_value("quiet")
    expect(rows).to_have_count(11)
    page.get_by_label("State").select_option("failing")
    expect(rows).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    expect(rows.first).to_contain_text("returns-desk")
    for row in rows.all():
        expect(row.locator(".outcome")).not_to_contain_text("delivering")
    site.stop_inspector(inspector)


def test_missing_pages_are_reported_as_missing(site: Site, open_page: Opener) -> None:
    for path in ("/destinations/missing", "/windows/missing/0/0"):
        page = open_page(f"{site.url}{path}")
        expect(page.locator(".error-text")).to_contain_text("missing")
    page = open_page(f"{site.url}/no/such/page")
    expect(page.locator("h1")).to_have_text("Not found")


def test_the_footer_shows_the_number_and_range_of_receipts(
    site: Site, page: Page, ordered: Position
) -> None:
    delivered(page, site, ordered, 2)
    page.reload()
    about = page.locator("#about")
    expect(about).to_contain_text("in memory")
    expect(about).to_contain_text("back to")
