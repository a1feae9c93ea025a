"""Ask what a browser would, with its cookies, but read headers and bodies as they came; *.localhost is this machine."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext


@dataclass(frozen=True)
class Answer:
    """An answer; header names are in small letters, repeated ones keep their values apart."""

    status: int
    headers: Mapping[str, tuple[str, ...]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        return ", ".join(self.headers.get(name, ()))


def ask(
    url: str,
    *,
    context: BrowserContext | None = None,
    method: str = "GET",
    headers: Mapping[str, str] = {},
    body: str | bytes | None = None,
    port: int | None = None,
) -> Answer:
    """One request to loopback for this URL's host, with the cookies that the browser would send; no redirects."""
    parts = urlsplit(url)
    port = port or parts.port or (443 if parts.scheme == "https" else 80)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    if parts.scheme == "https":
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        # The name goes along (SNI): a front may have certificates for its own names only.
        connection.sock = unchecked.wrap_socket(connection.sock, server_hostname=parts.hostname)
    sent = {"Host": parts.netloc, **headers}
    if context is not None:
        cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in context.cookies(url))
        sent.setdefault("Cookie", cookies)
    try:
        connection.request(method, f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}", body, sent)
        answer = connection.getresponse()
        found: dict[str, tuple[str, ...]] = {}
        for name, value in answer.getheaders():
            found[name.lower()] = (*found.get(name.lower(), ()), value)
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()
