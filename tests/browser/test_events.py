"""The list of events, as a person uses it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opener, StartSite
from tests.browser.shop import Position, Site, order, signup

DELIVERED_MILLISECONDS_MAX = 120_000
"""A window of three seconds, grace, upload, receipt, on a machine that may be busy."""
LIVE_MILLISECONDS_MAX = 60_000


@pytest.fixture(scope="module")
def site(start_site: StartSite) -> Iterator[Site]:
    """A site of its own: a test creates the missing bucket."""
    with start_site() as site:
        yield site


@pytest.fixture(scope="module")
def signups(site: Site) -> dict[int, Position]:
    """Delivered, skipped and failed signups by number, sent before the first test."""
    return {number: site.send(signup(number), "signups") for number in (1, 4, 3, 8)}


def row(page: Page, position: Position) -> Locator:
    return page.locator(f'tr.event[data-id="{position}"]')


def dest(page: Page, position: Position) -> Locator:
    """Text of the Dest. cell for screen readers."""
    return row(page, position).locator(".dest .visually-hidden")


def word() -> str:
    """A text that is in no other event."""
    return f"word{uuid4().hex[:10]}"


@pytest.mark.usefixtures("signups")
def test_a_row_turns_from_pending_to_delivered_in_place(site: Site, page: Page) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")
    with site.window_held_open():
        position = site.send(order(1))
        expect(dest(page, position)).to_have_text(
            "0 of 2 delivered, 2 waiting", timeout=LIVE_MILLISECONDS_MAX
        )
        expect(row(page, position)).to_contain_text("POST/orders")
        assert row(page, position).locator(".mark.is-pending").count() == 1
        row(page, position).evaluate("node => { node.seenBefore = true; }")
    expect(dest(page, position)).to_have_text(
        "2 of 2 delivered", timeout=DELIVERED_MILLISECONDS_MAX
    )
    assert row(page, position).evaluate("node => node.seenBefore")
    assert row(page, position).locator(".mark.is-delivered").count() == 1
    assert row(page, position).locator(".mark.is-pending").count() == 0


def test_a_failing_bucket_is_red_and_plain_after_redelivery(site: Site, page: Page) -> None:
    position = site.send(order(2), "returns")
    expect(dest(page, position)).to_have_text(
        "1 of 2 delivered, 1 failed", timeout=DELIVERED_MILLISECONDS_MAX
    )
    mark = row(page, position).locator(".dest .mark.is-failed")
    red = mark.evaluate("node => getComputedStyle(node).color")
    assert red == "rgb(184, 35, 43)"
    row(page, position).locator(".row-link").click()
    expect(page.locator("details.delivery.is-failed")).to_contain_text("returns-desk")
    expect(page.locator("details.delivery.is-failed")).to_contain_text("failed")
    expect(page.locator(".event-error")).to_contain_text("NoSuchBucket")
    page.go_back()
    page.get_by_role("link", name="Destinations", exact=True).click()
    failing = page.locator("tr.destination", has_text="returns-desk")
    expect(failing).to_contain_text("1 window given up")
    expect(failing.locator(".cause")).to_contain_text("NoSuchBucket")
    failing.locator(".row-link").click()
    command = page.locator(".command code").inner_text()
    assert command.startswith("stream-app redeliver --config ")
    site.lab.s3.create_bucket(site.lab.late_bucket)
    site.redeliver(*command.split()[2:])
    page.get_by_role("link", name="Events", exact=True).click()
    expect(dest(page, position)).to_have_text("2 of 2 delivered", timeout=LIVE_MILLISECONDS_MAX)
    plain = row(page, position).locator(".dest .mark").evaluate("n => getComputedStyle(n).color")
    assert plain == "rgb(138, 148, 161)"


def test_outcomes_differ_in_shape_and_text_and_only_failures_have_color_and_weight(
    signups: dict[int, Position], page: Page
) -> None:
    found = []
    for number, text in zip(
        (1, 4, 3),
        ("2 of 2 delivered", "1 of 2 delivered, 1 skipped by filter", "1 of 2 delivered, 1 failed"),
        strict=True,
    ):
        position = signups[number]
        expect(dest(page, position)).to_have_text(text, timeout=DELIVERED_MILLISECONDS_MAX)
        marks = row(page, position).locator(".dest .mark")
        mark = marks.first if number == 3 else marks.last
        shape = mark.locator("use").get_attribute("href")
        weight = "it => getComputedStyle(it.closest('strong') ?? it).fontWeight"
        found.append(
            (shape, mark.evaluate("it => getComputedStyle(it).color"), mark.evaluate(weight))
        )
    faint = "rgb(138, 148, 161)"
    assert found == [
        ("#mark-delivered", faint, "400"),
        ("#mark-skipped", faint, "400"),
        ("#mark-failed", "rgb(184, 35, 43)", "700"),
    ]


def test_the_tooltip_of_dest_explains_outcomes_on_hover_and_on_focus(
    signups: dict[int, Position], page: Page
) -> None:
    position = signups[8]
    expect(dest(page, position)).to_have_text(
        "1 of 2 delivered, 1 skipped by filter", timeout=DELIVERED_MILLISECONDS_MAX
    )
    tooltip = page.get_by_role("tooltip")
    row(page, position).locator(".dest").hover()
    expect(tooltip).to_contain_text("1 skipped by filter: the expression returned undefined")
    page.keyboard.press("Escape")
    expect(tooltip).to_be_hidden()
    page.locator(".row-link").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(tooltip).to_contain_text("delivered")


def test_pause_counts_new_events_and_resume_shows_them(site: Site, page: Page) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".live-state")).to_have_text("Paused")
    positions = site.send_many([order(number) for number in range(5)])
    resume = page.get_by_role("button", name="Resume (5 new)")
    expect(resume).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    assert row(page, positions[0]).count() == 0
    resume.click()
    for position in positions:
        expect(row(page, position)).to_be_visible()
    expect(dest(page, positions[0])).to_have_text(
        "2 of 2 delivered", timeout=DELIVERED_MILLISECONDS_MAX
    )


def test_events_received_while_paused_show_receipts_received_meanwhile(
    site: Site, page: Page
) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")
    page.keyboard.press("p")
    position = site.send(order(6))
    expect(page.locator(".pause")).to_contain_text("1 new", timeout=LIVE_MILLISECONDS_MAX)
    other = page.context.new_page()
    other.goto(f"{site.url}{position.path}")
    expect(other.locator("details.delivery.is-delivered")).to_have_count(
        2, timeout=DELIVERED_MILLISECONDS_MAX
    )
    other.close()
    page.keyboard.press("p")
    expect(dest(page, position)).to_have_text("2 of 2 delivered", timeout=LIVE_MILLISECONDS_MAX)


def test_new_rows_do_not_move_a_scrolled_list(site: Site, open_page: Opener) -> None:
    site.send_many([order(number) for number in range(60)])
    page = open_page(site.url)
    expect(page.locator("tr.event").nth(59)).to_be_attached()
    page.mouse.wheel(0, 400)
    page.wait_for_function("() => scrollY > 300")
    first = page.locator("tr.event").nth(20)
    before = first.bounding_box()
    positions = site.send_many([order(number) for number in range(7)])
    pill = page.get_by_role("button", name="7 new")
    expect(pill).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    assert first.bounding_box() == before
    assert row(page, positions[0]).count() == 0
    pill.click()
    expect(row(page, positions[-1])).to_be_in_viewport()
    assert page.evaluate("scrollY") == 0


def test_scrolling_loads_older_events(site: Site, open_page: Opener) -> None:
    name = word()
    first = site.send({"kind": name})
    site.send_many([order(number) for number in range(260)])
    page = open_page(site.url)
    expect(page.locator("tr.event").nth(90)).to_be_attached()
    assert row(page, first).count() == 0
    while row(page, first).count() == 0:
        loaded = page.locator("tr.event").count()
        page.mouse.wheel(0, 4000)
        expect(page.locator("tr.event").nth(loaded)).to_be_attached()
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
    expect(page.locator(".list-foot")).to_contain_text("Searched")
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


def test_the_pipeline_filters_rows(site: Site, page: Page) -> None:
    mine = site.send(signup(1), "signups")
    other = site.send(order(1))
    expect(row(page, other)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    page.get_by_label("Pipeline").fill("signups")
    expect(row(page, mine)).to_be_visible()
    expect(row(page, other)).to_have_count(0)


def test_a_jump_goes_to_a_position_and_back_to_newest(site: Site, page: Page) -> None:
    positions = site.send_many([order(number) for number in range(3)])
    expect(row(page, positions[-1])).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    page.get_by_role("combobox", name="Time").select_option("custom")
    jump = page.get_by_label("Up to")
    jump.fill(str(positions[0]))
    jump.press("Enter")
    expect(page.locator(".live-state")).to_have_text("Not the newest")
    expect(page.locator(".list-notice")).to_contain_text(f"Events up to {positions[0]}.")
    expect(page.locator("tr.event").first).to_have_attribute("data-id", str(positions[0]))
    page.get_by_role("button", name="Go to newest").click()
    expect(row(page, positions[-1])).to_be_visible()


def test_a_jump_goes_to_a_time(site: Site, page: Page) -> None:
    position = site.send(order(1))
    expect(row(page, position)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    shown = row(page, position).locator("time").get_attribute("datetime")
    later = site.send(order(2))
    expect(row(page, later)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    page.get_by_role("combobox", name="Time").select_option("custom")
    jump = page.get_by_label("Up to")
    jump.fill(str(shown))
    jump.press("Enter")
    expect(page.locator("tr.event").first).to_have_attribute("data-id", str(position))
    jump.fill("half past nine")
    jump.press("Enter")
    assert "partition@offset" in str(jump.evaluate("node => node.validationMessage"))


def test_going_back_restores_the_list(site: Site, open_page: Opener) -> None:
    site.send_many([order(number) for number in range(80)])
    page = open_page(site.url)
    expect(page.locator("tr.event").nth(79)).to_be_attached()
    page.mouse.wheel(0, 900)
    page.wait_for_function("() => scrollY > 800")
    was = page.evaluate("scrollY")
    page.locator("tr.event").nth(40).locator(".row-link").click()
    expect(page.locator("h1")).to_contain_text("POST /orders")
    page.go_back()
    page.wait_for_function("was => Math.abs(scrollY - was) < 60", arg=was)


@pytest.mark.parametrize("value", [b"", b"no json", b"\xff\xfe\x00", b"null"])
def test_a_value_that_is_not_an_event_has_a_row_and_a_page(
    site: Site, open_page: Opener, value: bytes
) -> None:
    position = site.send(value)
    page = open_page(site.url)
    expect(row(page, position)).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    row(page, position).locator(".row-link").click()
    expect(page.locator(".event-body")).to_be_visible()


def test_a_record_without_a_value_has_a_row_and_a_page(site: Site, open_page: Opener) -> None:
    position = site.background.run(site.lab.send_now(None, "orders"))
    page = open_page(f"{site.url}{position.path}")
    expect(page.locator(".event-body")).to_contain_text("no value")


def test_a_row_opens_beside_the_list_where_there_is_room(site: Site, open_page: Opener) -> None:
    positions = site.send_many([order(number) for number in range(3)])
    page = open_page(site.url, viewport={"width": 1600, "height": 900})
    expect(row(page, positions[0])).to_be_visible(timeout=LIVE_MILLISECONDS_MAX)
    row(page, positions[0]).locator(".row-link").focus()
    page.keyboard.press("Enter")
    side = page.get_by_role("complementary", name="Event")
    expect(side.locator("h1")).to_contain_text("POST /orders")
    expect(side).to_contain_text(str(positions[0]))
    expect(row(page, positions[1])).to_be_in_viewport()
    row(page, positions[1]).locator(".row-link").click()
    expect(side).to_contain_text(str(positions[1]))
    assert f"event={positions[1].partition}%40{positions[1].offset}" in page.url
    page.reload()
    expect(side).to_contain_text(str(positions[1]))
    expect(row(page, positions[1])).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    expect(side).to_be_hidden()
    assert "event=" not in page.url
    row(page, positions[1]).locator(".row-link").click()
    side.get_by_role("link", name="Open the page").click()
    expect(page.locator(".crumbs")).to_contain_text(str(positions[1]))
