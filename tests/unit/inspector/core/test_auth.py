"""Who is let into the Inspector, and what a browser may do with an answer."""

import pytest

from stream_app.inspector.guard import (
    HEADERS,
    Gate,
    is_foreign,
    is_local_name,
    is_loopback,
    token_mistake,
)

TOKEN = "0123456789abcdef"  # noqa: S105 - of these tests
SECRET = b"x" * 32


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_address_of_this_machine_is_known(bind: str) -> None:
    assert is_loopback(bind)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])  # noqa: S104
def test_address_that_others_reach_is_known(bind: str) -> None:
    assert not is_loopback(bind)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
def test_own_name_is_answered(host: str) -> None:
    assert is_local_name(host)


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "example.com", "127.0.0.1.example.com", "localhost.example.com:8080"),
        *("[::1", "example.com@localhost.", "127.0.0.1, example.com"),
    ],
)
def test_name_of_another_site_that_points_here_is_not_answered(host: str | None) -> None:
    assert not is_local_name(host)


@pytest.mark.parametrize(
    ("origin", "site", "foreign"),
    [
        (None, None, False),
        (None, "same-origin", False),
        (None, "none", False),
        (None, "cross-site", True),
        (None, "same-site", True),
        ("http://localhost:8080", "same-origin", False),
        ("https://localhost:8080", None, False),
        ("http://localhost:9090", None, True),
        ("http://example.com", None, True),
        ("null", None, True),
    ],
)
def test_request_of_another_sites_page_is_known(
    origin: str | None, site: str | None, *, foreign: bool
) -> None:
    assert is_foreign("localhost:8080", origin, site) is foreign


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("short", "it holds 5 characters; write 16 to 1024"),
        ("x" * 1025, "it holds 1025 characters"),
        ("two words of a token", "more than one word"),
        ("0123456789abcdef\x00", "more than one word"),
        ("0123456789abcdé\u00e9", "more than one word"),
    ],
)
def test_text_that_is_no_token_is_told(token: str, words: str) -> None:
    assert words in str(token_mistake(token))


def test_token_is_sixteen_characters_or_more() -> None:
    assert token_mistake(TOKEN) is None


def test_without_a_token_everybody_is_let_in_and_nobody_knows_it() -> None:
    gate = Gate(None, SECRET)
    assert gate.is_open
    assert gate.admits(None, None)
    assert not gate.is_token("")
    assert gate.cookie == ""


@pytest.mark.parametrize(
    ("authorization", "let_in"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        ("Bearer ", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer \udcff", False),
        (None, False),
    ],
)
def test_header_with_the_token_is_let_in(authorization: str | None, *, let_in: bool) -> None:
    gate = Gate(TOKEN, SECRET)
    assert not gate.is_open
    assert gate.admits(authorization, None) is let_in


def test_cookie_lets_in_and_does_not_hold_the_token() -> None:
    gate = Gate(TOKEN, SECRET)
    assert gate.admits(None, gate.cookie)
    assert TOKEN not in gate.cookie
    assert not gate.admits(None, TOKEN)
    assert not gate.admits(None, gate.cookie[:-1])


def test_cookie_of_another_start_or_another_token_does_not_let_in() -> None:
    gate = Gate(TOKEN, SECRET)
    assert not gate.admits(None, Gate(TOKEN, b"y" * 32).cookie)
    assert not gate.admits(None, Gate(TOKEN[::-1], SECRET).cookie)


def test_no_content_can_run_as_script() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
