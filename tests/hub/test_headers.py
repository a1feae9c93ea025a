"""Every script of the hub's templates carries a nonce, and the header that names it goes with the same answer."""

from types import SimpleNamespace

import pytest

from mutirao.hub.headers import headers, hsts, marked, nonce_of, page_policy
from mutirao.origins import Origins, origins

APART = origins("https://hub.example:8443")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<script>x</script>", '<script nonce="{{ csp_nonce() }}">x</script>'),
        ('<script src="a.js">', '<script nonce="{{ csp_nonce() }}" src="a.js">'),
        ("<SCRIPT\n type=x>", '<script nonce="{{ csp_nonce() }}"\n type=x>'),
        ('<script nonce="mine">', '<script nonce="mine">'),
        ("<scripted>", "<scripted>"),
        ("a < script", "a < script"),
        ('<div class="a" style="display: none;">', '<div class="a" data-hidden-first>'),
        ("<div style='display:none'>", "<div data-hidden-first>"),
        ('<p style="color: red">', '<p style="color: red">'),
    ],
)
def test_templates_are_marked(source: str, expected: str) -> None:
    assert marked(source) == expected


def test_one_answer_has_one_nonce() -> None:
    given: dict[str, str] = {}
    handler = SimpleNamespace(set_header=given.__setitem__)
    nonce = nonce_of(handler, APART)
    assert nonce_of(handler, APART) == nonce
    assert f"script-src 'nonce-{nonce}' 'strict-dynamic'" in given["Content-Security-Policy"]
    other = SimpleNamespace(set_header=given.__setitem__)
    assert nonce_of(other, APART) != nonce


def test_a_form_may_lead_to_members_and_nowhere_else() -> None:
    assert "form-action 'self' https://*.hub.example:8443;" in page_policy("x", APART)
    assert "form-action 'self';" in page_policy("x", Origins())


def test_only_the_administration_has_style_sheets_from_scripts() -> None:
    assert "style-src 'self';" in page_policy("x", APART, "home.html")
    assert "style-src 'self' 'unsafe-inline';" in page_policy("x", APART, "admin.html")


def test_https_for_all_hosts_is_promised_where_it_is_there() -> None:
    assert hsts(APART, 60) == {"Strict-Transport-Security": "max-age=60; includeSubDomains"}
    assert hsts(origins("", "https://hub.example"), 60) == {"Strict-Transport-Security": "max-age=60"}
    assert hsts(APART, 0) == hsts(origins("http://hub.example"), 60) == {}
    assert "Strict-Transport-Security" not in headers(Origins(), 60)
