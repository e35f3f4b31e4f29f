"""The page of one event: its tree, the sent lines, the receipts."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener, opened_card
from tests.browser.shop import Position, Site, order, signup

DELIVERED_MILLISECONDS_MAX = 120_000
EXACT = (
    b'{"big": 9007199254740993, "float": 1.10, "exp": 1E400, '
    b'"b": 1, "10": 2, "9": 3, "twice": 1, "twice": 2}'
)
ODD = {
    "body": {"user": {"name": "Ada", "roles": ["admin", "author"]}},
    "items": [{"odd key": True, "näme": None, 'q"uote': [[]]}],
}


@pytest.fixture(scope="module")
def positions(site: Site) -> dict[str, Position]:
    """Events sent before the first test, so that later tests find their receipts."""
    value = json.dumps(order(4, note="ünïcödé 😀 <b>&amp;</b>", big=2**60), ensure_ascii=False)
    site.send_many([order(number) for number in range(5)])
    among_others = site.send(value.encode())
    site.send_many([order(number) for number in range(5)])
    return {
        "among others": among_others,
        "order": site.send(order(5)),
        "skipped": site.send(signup(4), "signups"),
        "failed": site.send(signup(3), "signups"),
    }


def copied(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def delivered(page: Page, count: int) -> None:
    expect(page.locator("details.delivery.is-delivered")).to_have_count(
        count, timeout=DELIVERED_MILLISECONDS_MAX
    )


@pytest.mark.usefixtures("positions")
def test_nodes_copy_the_path_that_an_expression_takes(site: Site, open_page: Opener) -> None:
    position = site.send(ODD)
    page = open_page(f"{site.url}{position.path}")
    tree = page.locator(".event-body [role=tree]")
    expect(tree).to_be_visible()
    # Only `body` is open at first.
    expect(tree.locator(".node")).to_have_count(8)
    expect(tree.locator(".node").last).to_contain_text("items")
    page.get_by_role("button", name="Expand all").click()
    wanted = {
        '"Ada"': "$event.body.user.name",
        '"author"': "$event.body.user.roles[1]",
        "odd key: true": '$event.items[0]["odd key"]',
        "null": "$event.items[0].näme",
        "[ 1 item ]": '$event.items[0]["q\\"uote"]',
    }
    for text, path in wanted.items():
        node = tree.locator(".node").filter(has_text=text).last
        node.hover()
        node.locator(".node-copy").click()
        page.wait_for_function(
            "path => navigator.clipboard.readText().then(it => it === path)", arg=path
        )


def test_the_tree_is_navigated_and_copied_by_keys(site: Site, open_page: Opener) -> None:
    position = site.send(ODD)
    page = open_page(f"{site.url}{position.path}")
    tree = page.locator(".event-body [role=tree]")
    tree.locator(".node").first.focus()
    keys = page.keyboard
    keys.press("ArrowLeft")
    expect(tree.locator(".node")).to_have_count(1)
    keys.press("Enter")
    expect(tree.locator(".node")).to_have_count(3)
    keys.press("ArrowDown")
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("c")
    expect(page.locator("#status")).to_have_text("Copied $event.body.user.name")
    assert copied(page) == "$event.body.user.name"
    focused = page.locator("[role=treeitem]:focus")
    expect(focused).to_have_attribute("aria-level", "4")
    keys.press("ArrowLeft")
    expect(page.locator("[role=treeitem]:focus")).to_have_attribute("aria-expanded", "true")
    keys.press("End")
    keys.press("Home")
    expect(page.locator("[role=treeitem]:focus")).to_have_attribute("aria-level", "1")


def test_numbers_order_and_repeated_names_are_shown_as_in_the_source(
    site: Site, open_page: Opener
) -> None:
    position = site.send(EXACT)
    page = open_page(f"{site.url}{position.path}")
    nodes = page.locator(".event-body .node")
    expect(nodes).to_have_count(9)
    assert [it.split(":")[0].strip() for it in nodes.all_inner_texts()][1:] == [
        *("big", "float", "exp", "b", "10", "9", "twice", "twice")
    ]
    numbers = page.locator(".event-body .value.number").all_inner_texts()
    assert numbers == ["9007199254740993", "1.10", "1E400", "1", "2", "3", "1", "2"]
    expect(nodes.nth(7)).to_contain_text("overridden")
    page.get_by_role("tab", name="Text").click()
    expect(page.locator(".event-body pre")).to_have_text(EXACT.decode())


def test_sent_is_the_objects_line_byte_for_byte(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    page = open_page(f"{site.url}{positions['among others'].path}")
    delivered(page, 2)
    for id_ in ("orders-archive", "everything"):
        card = opened_card(page, id_)
        expect(card.locator(".badge.from-object")).to_contain_text("read from the object, line ")
        number = int(card.locator(".badge.from-object").inner_text().rsplit(" ", 1)[1])
        card.locator(".sent-head").get_by_role("button", name="Copy the line").click()
        expect(page.locator("#status")).to_have_text("Copied the line")
        line = copied(page)
        assert card.locator(".sent pre").first.text_content() == line
        card.get_by_role("tab", name="Delivery report").click()
        key = card.locator("dt:text-is('Key') + dd code").inner_text()
        assert line.encode() == site.line(site.lab.bucket, key, number)


def test_response_is_the_receipt(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    position = positions["order"]
    page = open_page(f"{site.url}{position.path}")
    delivered(page, 2)
    card = opened_card(page, "orders-archive")
    card.get_by_role("tab", name="Delivery report").click()
    response = card.get_by_role("tabpanel", name="Delivery report")
    for term in (
        "Status",
        "Bucket",
        "Key",
        "Line",
        "ETag",
        "Attempts",
        "Closed",
        "Stored",
        "Counts",
    ):
        expect(response.locator(f"dt:text-is('{term}')").first).to_be_visible()
    expect(response.locator("dt:text-is('Bucket') + dd code")).to_have_text(site.lab.bucket)
    response.get_by_text("Full receipt").click()
    expect(response.locator("[role=tree]")).to_contain_text('"delivered"')
    response.get_by_role("link").first.click()
    expect(page.locator("h1")).to_contain_text("Window")
    expect(page.locator(f'tr.event a[href="{position.path}"]')).to_be_visible()


def test_a_line_that_is_not_in_an_object_yet_is_computed_and_labeled(
    site: Site, open_page: Opener
) -> None:
    with site.window_held_open():
        position = site.send(order(6))
        page = open_page(f"{site.url}{position.path}")
        card = opened_card(page, "orders-archive")
        expect(card.locator(".badge.from-computed")).to_have_text("computed again")
        line = card.locator(".sent pre").first.text_content() or ""
        assert json.loads(line) == order(6)["body"]
    delivered(page, 2)


def test_an_event_page_turns_from_pending_to_delivered_by_itself(
    site: Site, open_page: Opener
) -> None:
    with site.window_held_open():
        position = site.send(order(7))
        page = open_page(f"{site.url}{position.path}")
        expect(page.locator("details.delivery.is-pending")).to_have_count(2)
    delivered(page, 2)
    expect(page.locator(".page-head .dest .visually-hidden")).to_have_text("2 of 2 delivered")


def test_skipped_and_failed_show_the_reason(
    site: Site, open_page: Opener, positions: dict[str, Position]
) -> None:
    page = open_page(f"{site.url}{positions['skipped'].path}")
    card = page.locator("details.delivery.is-skipped")
    expect(card).to_be_visible(timeout=DELIVERED_MILLISECONDS_MAX)
    expect(opened_card(page, "new-signups").locator(".sent")).to_contain_text("undefined")
    page = open_page(f"{site.url}{positions['failed'].path}")
    card = page.locator("details.delivery.is-failed")
    expect(card).to_be_visible(timeout=DELIVERED_MILLISECONDS_MAX)
    errors = page.locator("main").get_by_text("TypeError")
    expect(errors).to_have_count(1)
    expect(page.locator(".event-error")).to_contain_text("TypeError")
    expect(page.locator("details.delivery").first).to_have_attribute("data-id", "new-signups")
    expect(page.locator("details.delivery[open]")).to_have_count(1)


def test_links_lead_to_neighboring_events(site: Site, open_page: Opener) -> None:
    sent = site.send_many([order(number) for number in range(6)])
    mine = [it for it in sent if it.partition == sent[-1].partition]
    page = open_page(f"{site.url}{mine[-2].path}")
    page.get_by_role("link", name="Newer →").click()
    expect(page.locator(".crumbs")).to_contain_text(str(mine[-1]))
    page.get_by_role("link", name="← Older").click()
    expect(page.locator(".crumbs")).to_contain_text(str(mine[-2]))


def test_a_missing_event_is_reported_as_missing(site: Site, open_page: Opener) -> None:
    page = open_page(f"{site.url}/events/0/999999999")
    expect(page.locator("main")).to_contain_text("not there yet")
    page = open_page(f"{site.url}/events/77/1")
    expect(page.locator("main")).to_contain_text("does not exist")
