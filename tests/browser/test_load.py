"""Two thousand events a second: the page answers, and what it and the Inspector hold is bounded."""

import asyncio
import json
import statistics
import time
from typing import Final

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.shop import Site, order

RATE: Final = 2_000
SECONDS: Final = 20
BATCHES_PER_SECOND: Final = 20
ROWS_MAX: Final = 2_000
SEARCHED_MAX: Final = 20_000
"""By one request."""
ANSWER_MILLISECONDS_MAX: Final = 500
"""From a click or key to the paint that shows its effect."""
SLOWEST_MILLISECONDS_MAX: Final = 2_000
"""Of the single slowest: two cores run a broker, S3, a worker, the Inspector and the browser."""
PAGE_MIB_MAX: Final = 150
INSPECTOR_MIB_MAX: Final = 256
UPDATES_PER_SECOND_MAX: Final = 4

WATCH = """() => {
  window.answers = {};
  new PerformanceObserver((list) => {
    for (const it of list.getEntries()) {
      const of = it.interactionId;
      if (of) window.answers[of] = Math.max(window.answers[of] ?? 0, it.duration);
    }
  }).observe({type: "event", durationThreshold: 16});
  window.updates = [];
  new MutationObserver(() => window.updates.push(performance.now()))
    .observe(document.querySelector("table.events tbody"), {childList: true});
}"""


async def flow(site: Site, ended: asyncio.Event) -> int:
    """Send at the rate until told to end; return how many were sent."""
    producer = site.lab.load._running
    values = [json.dumps(order(number)).encode() for number in range(1_000)]
    started, sent = time.monotonic(), 0
    while not ended.is_set():
        due = int((time.monotonic() - started) * RATE)
        for number in range(sent, due):
            await producer.send(site.lab.events_topic, values[number % 1_000], key=b"orders")
        sent = due
        await asyncio.sleep(1 / BATCHES_PER_SECOND)
    await producer.flush()
    return sent


@pytest.mark.timeout(240)
def test_the_page_stays_usable_while_two_thousand_events_a_second_flow(
    site: Site, open_page: Opener
) -> None:
    page = open_page(site.url)
    expect(page.locator(".live-state")).to_have_text("Live")
    site.send(order(0))
    expect(page.locator("tr.event").first).to_be_visible()
    page.evaluate(WATCH)
    ended = asyncio.Event()
    flowing = asyncio.run_coroutine_threadsafe(flow(site, ended), site.background.loop)
    deadline = time.monotonic() + SECONDS
    clicks = 0
    try:
        while time.monotonic() < deadline:
            # Rows flow by meanwhile: that is what is proven.
            page.wait_for_timeout(1_500)
            page.locator(".pause").click()
            expect(page.locator(".live-state")).to_have_text("Paused")
            expect(page.locator(".pause")).to_contain_text("new")
            page.locator(".pause").click()
            expect(page.locator(".live-state")).to_have_text("Live")
            page.locator("tr.event .row-link").nth(3).click()
            expect(page.locator(".event-body [role=tree]")).to_be_visible()
            page.keyboard.press("e")
            expect(page.locator("tr.event").nth(40)).to_be_attached()
            clicks += 1
        page.wait_for_timeout(2_000)
        rows = page.locator("tr.event").count()
    finally:
        site.background.loop.call_soon_threadsafe(ended.set)
        sent = flowing.result(60)
    assert sent > RATE * SECONDS * 0.9
    assert clicks >= 3
    assert rows <= ROWS_MAX
    answers = sorted(page.evaluate("Object.values(window.answers)"))
    updates = page.evaluate("window.updates")
    heap = page.evaluate("performance.memory.usedJSHeapSize") // 2**20
    print(f"{sent} events, {clicks} rounds, answers {answers} ms, page {heap} MiB, ")
    print(f"{len(updates)} updates, Inspector {site.inspectors[0].rss_mib_max} MiB")
    assert len(answers) >= clicks
    assert statistics.median(answers) < ANSWER_MILLISECONDS_MAX
    assert answers[-1] < SLOWEST_MILLISECONDS_MAX
    busiest = max((sum(at <= it < at + 1_000 for it in updates) for at in updates), default=0)
    assert busiest <= UPDATES_PER_SECOND_MAX + 4  # the rounds load the list again
    assert heap < PAGE_MIB_MAX
    assert site.inspectors[0].rss_mib_max < INSPECTOR_MIB_MAX
    # What flows by does not keep the receipts from being told.
    expect(page.locator("tr.event .mark.is-delivered").first).to_be_attached(timeout=60_000)


@pytest.mark.timeout(120)
def test_a_gap_in_the_flow_is_a_row_that_loads_what_is_missing(
    site: Site, open_page: Opener
) -> None:
    page = open_page(site.url)
    expect(page.locator(".live-state")).to_have_text("Live")

    async def burst() -> None:
        producer = site.lab.load._running
        for number in range(400):
            value = json.dumps({"burst": number}).encode()
            await producer.send(site.lab.events_topic, value, key=b"orders", partition=0)
        await producer.flush()

    page.get_by_role("button", name="Pause").click()
    site.background.run(burst())
    expect(page.locator(".pause")).to_contain_text("400 new", timeout=20_000)
    page.locator(".pause").click()
    gap = page.locator("tr.gap").first
    expect(gap).to_contain_text("came in between")
    before = page.locator("tr.event").count()
    gap.get_by_role("button").click()
    page.wait_for_function(
        "before => document.querySelectorAll('tr.event').length > before", arg=before
    )


@pytest.mark.timeout(120)
def test_a_search_says_how_far_it_has_looked_and_goes_on_when_asked(
    site: Site, open_page: Opener
) -> None:
    needle = site.send({"needle": "in a haystack"})

    async def haystack() -> None:
        producer = site.lab.load._running
        for number in range(SEARCHED_MAX + 2_000):
            await producer.send(site.lab.events_topic, b'{"n":%d}' % number, key=b"hay")
        await producer.flush()

    site.background.run(haystack())
    page = open_page(f"{site.url}/?search=IN+A+HAYSTACK")
    foot = page.locator(".list-foot")
    expect(foot).to_contain_text("Looked at", timeout=20_000)
    found = page.locator(f'tr.event[data-id="{needle}"]')
    go_on = foot.get_by_role("button", name="Search older ones")
    expect(go_on).to_be_visible()
    expect(found).to_have_count(0)
    while found.count() == 0 and go_on.is_visible():
        go_on.click()
        expect(foot).not_to_contain_text("Searching", timeout=20_000)
    expect(found).to_be_visible()
