"""Fixtures: Debian's Chromium, driven by Playwright, and a real site."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.browser import shop
from tests.browser.shop import Background, Site

CHROMIUM: Final = Path("/usr/bin/chromium")
WIDE: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 360, "height": 740}
ACTION_MILLISECONDS_MAX: Final = 60_000
"""For an action, and until an expectation holds, on a loaded machine."""
expect.set_options(timeout=ACTION_MILLISECONDS_MAX)
EXPECTED: Final = re.compile(r"the server responded with a status of (401|404|400)")
"""Console messages of Chromium about responses that tests provoke."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a browser where there is none."""
    if CHROMIUM.exists():
        return
    reason = f"{CHROMIUM} is missing; on Debian: apt-get install chromium"
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.stop()


StartSite = Callable[..., AbstractContextManager[Site]]


@pytest.fixture(scope="session")
def start_site(
    kafka: KafkaServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
    background: Background,
) -> StartSite:
    """Start a site for the duration of a `with` block; options are those of its shop."""

    @contextmanager
    def started(**options: Any) -> Iterator[Site]:
        site = shop.start(kafka.address, s3, tmp_path_factory.mktemp("site"), background, **options)
        yield site
        shop.stop(site)

    return started


@pytest.fixture(scope="session")
def site(start_site: StartSite) -> Iterator[Site]:
    """The site that modules share; those that depend on all of its events override it."""
    with start_site() as site:
        yield site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            # A container has no user namespaces for the sandbox, and little /dev/shm.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@dataclass
class PageErrors:
    """Collects errors, dialogs and popups of pages; a test fails for any."""

    found: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def allow(self, text: str) -> None:
        """Allow a console message that a test provokes."""
        self.allowed.append(text)

    def attach(self, page: Page) -> Page:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.found.append(f"popup: {popup.url}"))
        return page

    def _console(self, message: Any) -> None:
        expected = EXPECTED.search(message.text) or any(it in message.text for it in self.allowed)
        if message.type in {"error", "warning"} and not expected:
            self.found.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.found.append(f"dialog: {dialog.message}")
        dialog.dismiss()


Opener = Callable[..., Page]


def opened_card(page: Page, id_: str) -> Locator:
    """The card of a destination on an event's page, opened: the good ones are closed at first."""
    card = page.locator(f'details.delivery[data-id="{id_}"]')
    expect(card).to_be_visible()
    if not card.evaluate("it => it.open"):
        card.locator("summary").first.click()
    return card


@pytest.fixture
def page_errors() -> Iterator[PageErrors]:
    """Fail the test for a script error, refused content, a dialog or a popup."""
    page_errors = PageErrors()
    yield page_errors
    assert page_errors.found == []


@pytest.fixture
def open_page(browser: Browser, page_errors: PageErrors) -> Iterator[Opener]:
    """Open a page: `open_page(url, scheme="dark", viewport=PHONE)`."""
    contexts: list[BrowserContext] = []

    def opened(url: str, *, scheme: str = "light", viewport: Any = None, **options: Any) -> Page:
        context = browser.new_context(
            viewport=viewport or WIDE,
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        context.set_default_timeout(ACTION_MILLISECONDS_MAX)
        contexts.append(context)
        page = page_errors.attach(context.new_page())
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Opener, site: Site) -> Page:
    """Page of all events."""
    return open_page(site.url)
