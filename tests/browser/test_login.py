"""An Inspector that wants a token, and one that is away for a while."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Opener, Watch
from tests.browser.shop import Site, order

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of this test alone
BACK_MILLISECONDS_MAX = 40_000


def test_a_token_opens_every_page_and_nothing_else_does(
    site: Site, open_page: Opener, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n", "ascii")
    token.chmod(0o600)
    inspector = site.start_inspector("--token-file", str(token))
    place = site.send(order(1))
    page = open_page(f"{inspector.url}{place.path}")
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
    inspector.stop()
    site.inspectors.remove(inspector)


def test_a_broken_stream_is_said_and_mended_without_losing_rows(
    site: Site, open_page: Opener, watch: Watch
) -> None:
    watch.allow("net::ERR_")
    inspector = site.start_inspector()
    page = open_page(inspector.url)
    expect(page.locator(".live-state")).to_have_text("Live")
    before = site.send(order(1))
    expect(page.locator(f'tr.event[data-id="{before}"]')).to_be_visible()
    inspector.stop()
    expect(page.locator(".banner.stream")).to_contain_text("live stream is broken")
    expect(page.locator(".live-state")).to_have_text("Reconnecting")
    meanwhile = site.send(order(2))
    site.inspectors.remove(inspector)
    again = site.start_inspector(port=int(inspector.url.rsplit(":", 1)[1]))
    expect(page.locator(f'tr.event[data-id="{meanwhile}"]')).to_be_visible(
        timeout=BACK_MILLISECONDS_MAX
    )
    expect(page.locator(".banner.stream")).to_have_count(0)
    expect(page.locator(f'tr.event[data-id="{before}"]')).to_be_visible()
    again.stop()
    site.inspectors.remove(again)
