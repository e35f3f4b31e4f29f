"""Destinations, their windows, and the box to try an expression."""

import json

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.browser.shop import Place, Site, order, signup

DELIVERED_MILLISECONDS_MAX = 30_000


def delivered(page: Page, site: Site, place: Place, count: int) -> None:
    page.goto(f"{site.url}{place.path}")
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        count, timeout=DELIVERED_MILLISECONDS_MAX
    )


def test_destinations_show_their_last_hour_as_charts_and_in_words(site: Site, page: Page) -> None:
    delivered(page, site, site.send(order(1)), 2)
    page.get_by_role("link", name="Destinations").click()
    row = page.locator("tr.destination", has_text="orders-archive")
    expect(row.locator(".state")).to_have_text("delivering")
    charts = row.get_by_role("img")
    expect(charts).to_have_count(6)
    said = charts.first.get_attribute("aria-label") or ""
    assert said.startswith("Events by minute in the last hour: ")
    assert row.locator(".spark .bars").first.get_attribute("d")
    page.get_by_role("searchbox").fill("signups")
    expect(page.locator("tr.destination")).to_have_count(1)


def test_a_destinations_page_has_its_numbers_its_windows_and_its_policy(
    site: Site, page: Page
) -> None:
    delivered(page, site, site.send(order(2)), 2)
    page.goto(f"{site.url}/destinations/orders-archive")
    expect(page.locator("figure.chart")).to_have_count(6)
    page.get_by_text("The numbers as a table").click()
    expect(page.locator("table.plain tbody tr")).to_have_count(60)
    page.locator("section", has_text="Bucket policy").get_by_role("button", name="Copy").click()
    page.wait_for_function("navigator.clipboard.readText().then(it => it.startsWith('{'))")
    policy = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert "s3:PutObject" in policy["Statement"][0]["Action"]
    assert site.lab.bucket in json.dumps(policy)
    page.locator("tr.window .row-link").first.click()
    expect(page.locator("h1")).to_contain_text("Window")
    expect(page.locator(".object-name code")).to_contain_text(f"s3://{site.lab.bucket}/orders/")


def test_a_window_lists_its_events_with_their_lines(site: Site, page: Page) -> None:
    places = site.send_many([signup(number) for number in (3, 4, 5, 6)], "signups")
    last = places[-1]
    delivered(page, site, last, 2)
    card = page.locator('details.delivery[data-id="new-signups"]')
    card.locator("dt:text-is('Window') + dd a").first.click()
    rows = page.locator("tr.event")
    expect(rows.first).to_be_visible()
    key = page.locator(".object-name code").inner_text().split(f"{site.lab.bucket}/", 1)[1]
    shown = page.locator(f'tr.event:has(a[href="{last.path}"])')
    line = int(shown.locator(".line").inner_text())
    sent = json.loads(site.line(site.lab.bucket, key, line))
    assert sent["email"] == "person-6@example.com"


def test_an_expression_is_tried_on_an_event_of_the_topic(site: Site, page: Page) -> None:
    place = site.send(signup(1), "signups")
    page.goto(f"{site.url}{place.path}")
    card = page.locator('details.delivery[data-id="new-signups"]')
    card.get_by_role("link", name="Try it").click()
    box = page.locator("form.try")
    expect(box.get_by_label("JavaScript over")).to_have_value(
        "$event.body.test ? undefined : {\n  email: $event.body.email,\n"
        "  plan: $event.body.plan.toLowerCase(),\n}"
    )
    expect(box.get_by_label("partition@offset")).to_have_value(str(place))
    box.get_by_role("button", name="Try").click()
    result = page.locator(".try-result")
    expect(result).to_contain_text("delivered")
    expect(result.locator("pre").first).to_have_text(
        '{"email":"person-1@example.com","plan":"team"}'
    )


def test_an_expression_is_tried_on_json(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/destinations/new-signups")
    box, result = page.locator("form.try"), page.locator(".try-result")
    box.get_by_text("JSON", exact=True).click()
    box.get_by_label("The event as JSON").fill('{"body": {"test": true}}')
    box.get_by_role("button", name="Try").click()
    expect(result).to_contain_text("skipped")
    box.get_by_label("The event as JSON").fill('{"body": {"email": "a"}}')
    box.get_by_label("The event as JSON").press("Control+Enter")
    expect(result).to_contain_text("failed")
    expect(result).to_contain_text("TypeError")
    box.get_by_label("JavaScript over").fill("$event.body.email")
    box.get_by_role("button", name="Try").click()
    expect(result.locator("pre").first).to_have_text('"a"')
    box.get_by_label("JavaScript over").fill("$event.(")
    box.get_by_role("button", name="Try").click()
    expect(result).to_contain_text("failed")
    box.get_by_label("JavaScript over").fill("")
    box.get_by_role("button", name="Try").click()
    expect(result).to_contain_text("Write an expression")


def test_what_is_not_there_is_said_to_be_not_there(site: Site, open_page: Opener) -> None:
    for path in ("/destinations/nobody", "/windows/nobody/0/0"):
        page = open_page(f"{site.url}{path}")
        expect(page.locator(".error-text")).to_contain_text("nobody")
    page = open_page(f"{site.url}/no/such/page")
    expect(page.locator("h1")).to_have_text("Not found")


def test_the_page_says_how_many_receipts_it_holds_and_how_far_back(site: Site, page: Page) -> None:
    delivered(page, site, site.send(order(3)), 2)
    page.reload()
    about = page.locator("#about")
    expect(about).to_contain_text("receipts held")
    expect(about).to_contain_text("back to")
