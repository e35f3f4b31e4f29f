"""An Inspector with a token, one that is restarted, and a broker that is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.browser import shop
from tests.browser.conftest import Opener, PageErrors, StartSite
from tests.browser.shop import Background, Site, order

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of this test alone
BACK_MILLISECONDS_MAX = 120_000


def test_a_token_opens_every_page_and_nothing_else_does(
    site: Site, open_page: Opener, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n", "ascii")
    token.chmod(0o600)
    inspector = site.start_inspector("--token-file", str(token))
    position = site.send(order(1))
    page = open_page(f"{inspector.url}{position.path}")
    box = page.get_by_label("Token")
    expect(box).to_be_focused()
    box.fill("wrong-horse-battery-staple")
    box.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="token")).to_be_visible()
    expect(page.locator("details.delivery")).to_have_count(0)
    box.fill(TOKEN)
    box.press("Enter")
    expect(page.locator("details.delivery")).to_have_count(2)
    page.get_by_role("link", name="Events", exact=True).first.click()
    expect(page.locator("tr.event").first).to_be_visible()
    expect(page.locator(".live-state")).to_have_text("Live")
    page.reload()
    expect(page.locator("tr.event").first).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator("tr.event")).to_have_count(0)
    page.close()
    site.stop_inspector(inspector)


def test_a_redelivery_is_run_from_the_page_where_it_is_allowed(
    start_site: StartSite, open_page: Opener, page_errors: PageErrors, tmp_path: Path
) -> None:
    page_errors.allow("status of 403")
    token = tmp_path / "token"
    token.write_text(TOKEN, "ascii")
    token.chmod(0o600)
    with start_site(has_archive_of_everything=False) as site:
        path = "/destinations/returns-desk"
        page = open_page(f"{site.url}{path}")
        position = site.send(order(1), "returns")
        alarm = page.get_by_role("region", name="What is wrong")
        expect(alarm).to_contain_text("1 window given up", timeout=BACK_MILLISECONDS_MAX)
        # The other Inspector of this site only reads.
        expect(alarm.get_by_role("button", name="Run it here")).to_have_count(0)
        start = """async path => (await fetch(`/api${path}/redeliver`, {
            method: "POST",
            headers: {"content-type": "application/json"},
            body: '{"failed_events": false}',
        })).status"""
        assert page.evaluate(start, path) == 403
        inspector = site.start_inspector("--token-file", str(token), "--allow-redeliver")
        page = open_page(f"{inspector.url}{path}")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_label("Token").press("Enter")
        alarm = page.get_by_role("region", name="What is wrong")
        site.lab.s3.create_bucket(site.lab.late_bucket)
        alarm.get_by_role("button", name="Run it here").click()
        alarm.get_by_role("button", name="Press again to run it").click()
        run = page.get_by_role("region", name="Redelivery", exact=True)
        expect(run.locator("h2")).to_have_text("Redelivery is done", timeout=BACK_MILLISECONDS_MAX)
        expect(run.locator("pre")).to_contain_text("1 redelivered")
        expect(page.locator(".state-box")).to_contain_text("delivering")
        expect(alarm).to_have_count(0)
        assert "redelivery of returns-desk started from 127.0.0.1: stream-app" in inspector.log
        assert "redelivery of returns-desk ended with status 0" in inspector.log
        page.goto(f"{inspector.url}{position.path}")
        expect(page.locator("details.delivery.is-delivered")).to_have_count(1)


def test_a_disconnected_stream_is_reported_and_resumes_without_losing_rows(
    site: Site, open_page: Opener, page_errors: PageErrors
) -> None:
    page_errors.allow("net::ERR_")
    inspector = site.start_inspector()
    page = open_page(inspector.url)
    expect(page.locator(".live-state")).to_have_text("Live")
    before = site.send(order(1))
    expect(page.locator(f'tr.event[data-id="{before}"]')).to_be_visible()
    site.stop_inspector(inspector)
    expect(page.locator(".banner.stream")).to_contain_text("live stream is disconnected")
    expect(page.locator(".live-state")).to_have_text("Reconnecting")
    meanwhile = site.send(order(2))
    again = site.start_inspector(port=int(inspector.url.rsplit(":", 1)[1]))
    expect(page.locator(f'tr.event[data-id="{meanwhile}"]')).to_be_visible(
        timeout=BACK_MILLISECONDS_MAX
    )
    expect(page.locator(".banner.stream")).to_have_count(0)
    expect(page.locator(f'tr.event[data-id="{before}"]')).to_be_visible()
    site.stop_inspector(again)


@pytest.fixture
def site_and_broker(
    s3: S3Server, tmp_path: Path, background: Background
) -> Iterator[tuple[Site, KafkaServer]]:
    """A site with a broker of its own, which the test may stop."""
    with KafkaServer() as kafka:
        site = shop.start(kafka.address, s3, tmp_path, background)
        yield site, kafka
        shop.stop(site)


def test_an_unavailable_broker_is_reported_and_rows_resume_when_it_returns(
    site_and_broker: tuple[Site, KafkaServer], open_page: Opener, page_errors: PageErrors
) -> None:
    page_errors.allow("status of 503")
    site, kafka = site_and_broker
    before = site.send(order(1))
    page = open_page(site.url)
    expect(page.locator(f'tr.event[data-id="{before}"]')).to_be_visible()
    kafka.kill()
    expect(page.locator(".banner.kafka")).to_be_visible(timeout=BACK_MILLISECONDS_MAX)
    expect(page.locator(f'tr.event[data-id="{before}"]')).to_be_visible()
    kafka.start()
    expect(page.locator(".banner.kafka")).to_have_count(0, timeout=BACK_MILLISECONDS_MAX)
    after = site.send(order(2))
    expect(page.locator(f'tr.event[data-id="{after}"]')).to_be_visible(
        timeout=BACK_MILLISECONDS_MAX
    )
