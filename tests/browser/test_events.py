"""The list of events, as somebody at a screen uses it."""

import time
from uuid import uuid4

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opener
from tests.browser.shop import Place, Site, order, signup

DELIVERED_MILLISECONDS_MAX = 30_000
"""A window of three seconds, grace, the upload, the receipt; and the machine may be busy."""
LIVE_MILLISECONDS_MAX = 10_000


def row(page: Page, place: Place) -> Locator:
    return page.locator(f'tr.event[data-id="{place}"]')


def dest(page: Page, place: Place) -> Locator:
    """The words of the Dest. cell that a screen reader has."""
    return row(page, place).locator(".dest .unseen")


def word() -> str:
    """A text that no other event has."""
    return f"word{uuid4().hex[:10]}"


def test_a_row_turns_from_pending_to_delivered_where_it_stands(site: Site, page: Page) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")
    site.window_begins()
    place = site.send(order(1))
    expect(dest(page, place)).to_have_text(
        "0 of 2 delivered, 2 pending", timeout=LIVE_MILLISECONDS_MAX
    )
    expect(row(page, place)).to_contain_text("POST/orders")
    assert row(page, place).locator(".mark.is-pending").count() == 1
    row(page, place).evaluate("node => { node.seenBefore = true; }")
    expect(dest(page, place)).to_have_text("2 of 2 delivered", timeout=DELIVERED_MILLISECONDS_MAX)
    assert row(page, place).evaluate("node => node.seenBefore")
    assert row(page, place).locator(".mark.is-delivered").count() == 1
    assert row(page, place).locator(".mark.is-pending").count() == 0


def test_a_failing_bucket_is_red_and_green_after_redelivery(site: Site, page: Page) -> None:
    place = site.send(order(2), "returns")
    expect(dest(page, place)).to_have_text(
        "1 of 2 delivered, 1 failed", timeout=DELIVERED_MILLISECONDS_MAX
    )
    mark = row(page, place).locator(".dest .mark.is-failed")
    red = mark.evaluate("node => getComputedStyle(node).color")
    assert red == "rgb(184, 35, 43)"
    row(page, place).locator(".row-link").click()
    expect(page.locator("details.delivery.is-failed")).to_contain_text("returns-desk")
    expect(page.locator("details.delivery.is-failed")).to_contain_text("failed")
    page.go_back()
    page.get_by_role("link", name="Destinations").click()
    failing = page.locator("tr.destination", has_text="returns-desk")
    expect(failing).to_contain_text("1 failed window")
    failing.get_by_role("link").click()
    command = page.locator(".command code").inner_text()
    assert command.startswith("stream-app redeliver --config ")
    site.lab.s3.create_bucket(site.lab.late_bucket)
    site.redeliver(*command.split()[2:])
    page.get_by_role("link", name="Events", exact=True).click()
    expect(dest(page, place)).to_have_text("2 of 2 delivered", timeout=LIVE_MILLISECONDS_MAX)
    green = row(page, place).locator(".dest .mark").evaluate("n => getComputedStyle(n).color")
    assert green == "rgb(20, 108, 55)"


def test_skipped_failed_and_delivered_differ_in_shape_colour_and_words(
    site: Site, page: Page
) -> None:
    places = [site.send(signup(number), "signups") for number in (1, 4, 3)]
    found = []
    for place, words in zip(
        places,
        ("2 of 2 delivered", "1 of 2 delivered, 1 skipped", "1 of 2 delivered, 1 failed"),
        strict=True,
    ):
        expect(dest(page, place)).to_have_text(words, timeout=DELIVERED_MILLISECONDS_MAX)
        mark = row(page, place).locator(".dest .mark").last
        shape = mark.locator("use").get_attribute("href")
        found.append((shape, mark.evaluate("node => getComputedStyle(node).color")))
    assert [shape for shape, _ in found] == ["#mark-delivered", "#mark-skipped", "#mark-failed"]
    assert len({colour for _, colour in found}) == 3


def test_dest_says_in_words_what_it_counts_when_pointed_at_and_when_focused(
    site: Site, page: Page
) -> None:
    place = site.send(signup(8), "signups")
    expect(dest(page, place)).to_have_text(
        "1 of 2 delivered, 1 skipped", timeout=DELIVERED_MILLISECONDS_MAX
    )
    tip = page.get_by_role("tooltip")
    row(page, place).locator(".dest").hover()
    expect(tip).to_contain_text("1 skipped: the expression gave undefined")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    page.locator(".row-link").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(tip).to_contain_text("delivered")


def test_pause_counts_what_it_holds_back_and_resume_shows_it(site: Site, page: Page) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".live-state")).to_have_text("Paused")
    places = site.send_many([order(number) for number in range(5)])
    resume = page.get_by_role("button", name="Resume (5 new)")
    expect(resume).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    assert row(page, places[0]).count() == 0
    resume.click()
    for place in places:
        expect(row(page, place)).to_be_visible()
    expect(dest(page, places[0])).to_have_text(
        "2 of 2 delivered", timeout=DELIVERED_MILLISECONDS_MAX
    )


def test_what_came_while_paused_shows_the_receipts_that_came_too(site: Site, page: Page) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")
    page.keyboard.press("p")
    place = site.send(order(6))
    expect(page.locator(".pause")).to_contain_text("1 new", timeout=LIVE_MILLISECONDS_MAX)
    other = page.context.new_page()
    other.goto(f"{site.url}{place.path}")
    expect(other.locator("details.delivery.is-delivered")).to_have_count(
        2, timeout=DELIVERED_MILLISECONDS_MAX
    )
    other.close()
    page.keyboard.press("p")
    expect(dest(page, place)).to_have_text("2 of 2 delivered", timeout=LIVE_MILLISECONDS_MAX)


def test_new_rows_do_not_move_what_a_reader_reads(site: Site, open_page: Opener) -> None:
    site.send_many([order(number) for number in range(60)])
    page = open_page(site.url)
    expect(page.locator("tr.event").nth(59)).to_be_attached()
    page.mouse.wheel(0, 400)
    page.wait_for_function("scrollY > 300")
    first = page.locator("tr.event").nth(20)
    before = first.bounding_box()
    places = site.send_many([order(number) for number in range(7)])
    pill = page.get_by_role("button", name="7 new")
    expect(pill).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    assert first.bounding_box() == before
    assert row(page, places[0]).count() == 0
    pill.click()
    expect(row(page, places[-1])).to_be_in_viewport()
    assert page.evaluate("scrollY") == 0


def test_older_events_come_by_scrolling(site: Site, open_page: Opener) -> None:
    name = word()
    first = site.send({"kind": name})
    site.send_many([order(number) for number in range(260)])
    page = open_page(site.url)
    expect(page.locator("tr.event").nth(90)).to_be_attached()
    assert row(page, first).count() == 0
    deadline = time.monotonic() + 20
    while row(page, first).count() == 0:
        assert time.monotonic() < deadline
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(100)
    expect(row(page, first)).to_contain_text(name)


def test_search_finds_names_and_values_in_any_case(site: Site, page: Page) -> None:
    name, value = word(), word()
    by_name = site.send({name: 1})
    by_value = site.send({"deep": [{"in": value.upper()}]})
    other = site.send(order(9))
    expect(row(page, other)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    search = page.get_by_role("searchbox")
    search.fill(name.upper())
    expect(row(page, by_name)).to_be_visible()
    expect(page.locator("tr.event")).to_have_count(1)
    expect(page.locator(".list-foot")).to_contain_text("Looked at")
    search.fill(value)
    expect(row(page, by_value)).to_be_visible()
    expect(page.locator("tr.event")).to_have_count(1)
    assert f"search={value}" in page.url
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value(value)
    expect(row(page, by_value)).to_be_visible()
    live = site.send({"later": value})
    expect(row(page, live)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    page.get_by_role("searchbox").fill("")
    expect(row(page, other)).to_be_visible()


def test_the_pipeline_chooses_rows(site: Site, page: Page) -> None:
    mine = site.send(signup(1), "signups")
    other = site.send(order(1))
    expect(row(page, other)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    page.get_by_label("Pipeline").fill("signups")
    page.get_by_label("Pipeline").press("Enter")
    expect(row(page, mine)).to_be_visible()
    expect(row(page, other)).to_have_count(0)


def test_a_reader_jumps_to_a_place_and_back_to_the_newest(site: Site, page: Page) -> None:
    places = site.send_many([order(number) for number in range(3)])
    expect(row(page, places[-1])).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    jump = page.get_by_label("Jump to a time or to partition@offset")
    jump.fill(str(places[0]))
    jump.press("Enter")
    expect(page.locator(".list-notice")).to_contain_text(f"From {places[0]} back.")
    expect(page.locator("tr.event").first).to_have_attribute("data-id", str(places[0]))
    page.get_by_role("button", name="Go to the newest").click()
    expect(row(page, places[-1])).to_be_visible()


def test_a_reader_jumps_to_a_time(site: Site, page: Page) -> None:
    place = site.send(order(1))
    expect(row(page, place)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    shown = row(page, place).locator("time").get_attribute("datetime")
    later = site.send(order(2))
    expect(row(page, later)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    jump = page.get_by_label("Jump to a time or to partition@offset")
    jump.fill(str(shown))
    jump.press("Enter")
    expect(page.locator("tr.event").first).to_have_attribute("data-id", str(place))
    jump.fill("half past nine")
    jump.press("Enter")
    assert "partition@offset" in str(jump.evaluate("node => node.validationMessage"))


def test_going_back_finds_the_list_as_it_was(site: Site, open_page: Opener) -> None:
    site.send_many([order(number) for number in range(80)])
    page = open_page(site.url)
    expect(page.locator("tr.event").nth(79)).to_be_attached()
    page.mouse.wheel(0, 900)
    page.wait_for_function("scrollY > 800")
    was = page.evaluate("scrollY")
    page.locator("tr.event").nth(40).locator(".row-link").click()
    expect(page.locator("h1")).to_contain_text("POST /orders")
    page.go_back()
    page.wait_for_function(f"Math.abs(scrollY - {was}) < 60")


@pytest.mark.parametrize("value", [b"", b"no json", b"\xff\xfe\x00", b"null"])
def test_a_value_that_is_no_event_has_a_row_and_a_page(
    site: Site, open_page: Opener, value: bytes
) -> None:
    place = site.send(value)
    page = open_page(site.url)
    expect(row(page, place)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    row(page, place).locator(".row-link").click()
    expect(page.locator(".event-body")).to_be_visible()


def test_a_record_without_a_value_has_a_row_and_a_page(site: Site, open_page: Opener) -> None:
    place = site.background.run(site.lab.send_now(None, "orders"))
    page = open_page(f"{site.url}{place.path}")
    expect(page.locator(".event-body")).to_contain_text("no value")
