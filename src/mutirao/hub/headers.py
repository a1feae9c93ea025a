"""What every page of the hub tells browsers: run our scripts alone, be framed by nobody, tell others little.

JupyterHub's templates carry inline scripts, so each page gets a nonce: `HubLanguage` writes it into every `<script>`,
and `csp_nonce` puts the header that names it on the same answer. Answers that are no page may load nothing at all.
"""

import re
import secrets
from typing import Any

from mutirao.origins import Origins

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": NOTHING,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SCRIPT = re.compile(r"<script\b(?![^>]*\bnonce=)", re.IGNORECASE)
_HIDDEN = re.compile(r"""\sstyle=(["'])display:\s*none;?\1""")


STYLED_BY_SCRIPT = ("admin.html",)
"""The hub's administration is a React bundle that puts style sheets into the page and knows no nonce."""


def page_policy(nonce: str, origins: Origins, page: str = "") -> str:
    """The Content-Security-Policy of one page; its scripts may load more of the hub's own, which RequireJS does.

    A form may lead to a member's own origin: the login goes on to the notebook.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}' 'strict-dynamic'",
            "style-src 'self'" + (" 'unsafe-inline'" if page in STYLED_BY_SCRIPT else ""),
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            " ".join(filter(None, ("form-action 'self'", origins.members))),
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def nonce_of(handler: Any, origins: Origins, page: str = "") -> str:
    """The nonce of the page (by its template's name) that this handler renders; the first call sets the header."""
    found = getattr(handler, "_mutirao_nonce", "")
    if not found:
        found = handler._mutirao_nonce = secrets.token_urlsafe(16)
        handler.set_header("Content-Security-Policy", page_policy(found, origins, page))
    return str(found)


def marked(source: str) -> str:
    """A template whose scripts carry the nonce, and whose hidden parts are hidden by a style sheet of ours."""
    source = _SCRIPT.sub('<script nonce="{{ csp_nonce() }}"', source)
    return _HIDDEN.sub(" data-hidden-first", source)


def headers(origins: Origins, hsts_s: int) -> dict[str, str]:
    """The headers of every answer of the hub."""
    return HEADERS | hsts(origins, hsts_s)


def hsts(origins: Origins, seconds: int) -> dict[str, str]:
    """Come by https only (RFC 6797), members' hosts too; nothing where we are not seen by https."""
    if not origins.secure or not seconds:
        return {}
    return {"Strict-Transport-Security": f"max-age={seconds}" + ("; includeSubDomains" if origins.apart else "")}
