"""Authorization of requests, and security headers."""

import pytest

from stream_app.inspector.core.auth import (
    SECURITY_HEADERS,
    TokenAuth,
    is_cross_site,
    is_exposed,
    is_local_name,
    is_loopback,
    token_mistake,
)

TOKEN = "0123456789abcdef"  # noqa: S105 - of these tests
SECRET = b"x" * 32


@pytest.mark.parametrize(
    ("mode", "is_own", "exposed"),
    [
        (0o100600, True, False),
        (0o100640, True, True),
        (0o100644, True, True),
        (0o100440, False, False),  # of root and the pod's group, as Kubernetes mounts a Secret
        (0o100444, False, True),
    ],
)
def test_token_file_is_exposed_to_users_who_need_not_read_it(
    mode: int, *, is_own: bool, exposed: bool
) -> None:
    assert is_exposed(mode, is_own=is_own) == exposed


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_address_of_this_machine_is_loopback(bind: str) -> None:
    assert is_loopback(bind)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])  # noqa: S104
def test_address_that_others_reach_is_not_loopback(bind: str) -> None:
    assert not is_loopback(bind)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
def test_local_name_is_accepted(host: str) -> None:
    assert is_local_name(host)


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "example.com", "127.0.0.1.example.com", "localhost.example.com:8080"),
        *("[::1", "example.com@localhost.", "127.0.0.1, example.com"),
    ],
)
def test_name_of_another_site_that_resolves_here_is_refused(host: str | None) -> None:
    assert not is_local_name(host)


@pytest.mark.parametrize(
    ("origin", "site", "cross_site"),
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
def test_request_of_another_sites_page_is_detected(
    origin: str | None, site: str | None, *, cross_site: bool
) -> None:
    assert is_cross_site("localhost:8080", origin, site) is cross_site


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("short", "it has 5 characters; write 16 to 1024"),
        ("x" * 1025, "it has 1025 characters"),
        ("two words of a token", "is not one word"),
        ("0123456789abcdef\x00", "is not one word"),
        ("0123456789abcdé\u00e9", "is not one word"),
    ],
)
def test_text_that_cannot_be_a_token_is_explained(token: str, words: str) -> None:
    assert words in str(token_mistake(token))


def test_token_is_sixteen_characters_or_more() -> None:
    assert token_mistake(TOKEN) is None


def test_without_a_token_every_request_is_authorized() -> None:
    auth = TokenAuth(None, SECRET)
    assert auth.is_open
    assert auth.authorizes(None, None)
    assert not auth.matches("")
    assert auth.cookie == ""


@pytest.mark.parametrize(
    ("authorization", "authorized"),
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
def test_header_with_the_token_is_authorized(
    authorization: str | None, *, authorized: bool
) -> None:
    auth = TokenAuth(TOKEN, SECRET)
    assert not auth.is_open
    assert auth.authorizes(authorization, None) is authorized


def test_cookie_authorizes_and_does_not_hold_the_token() -> None:
    auth = TokenAuth(TOKEN, SECRET)
    assert auth.authorizes(None, auth.cookie)
    assert TOKEN not in auth.cookie
    assert not auth.authorizes(None, TOKEN)
    assert not auth.authorizes(None, auth.cookie[:-1])


def test_cookie_of_another_start_or_another_token_does_not_authorize() -> None:
    auth = TokenAuth(TOKEN, SECRET)
    assert not auth.authorizes(None, TokenAuth(TOKEN, b"y" * 32).cookie)
    assert not auth.authorizes(None, TokenAuth(TOKEN[::-1], SECRET).cookie)


def test_no_content_can_run_as_script() -> None:
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
