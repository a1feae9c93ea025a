"""A person without a browser at a service whose members have hosts of their own, below *.localhost."""

import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from bench.client import Member
from yarl import URL


class Loopback(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        pass


class MemberApart(Member):
    """As Member; the server is on NAME.host, and certificates are not looked at."""

    def __init__(self, hub: str, name: str, password: str, accept_language: str = "en", **connector: Any) -> None:
        self.hub = URL(hub.rstrip("/") + "/")
        self.name = name
        self.password = password
        self.http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(),
            headers={"Accept-Language": accept_language},
            connector=aiohttp.TCPConnector(resolver=Loopback(), ssl=False, **connector),
            timeout=aiohttp.ClientTimeout(total=600),
        )

    @property
    def server(self) -> URL:
        return self.hub.with_host(f"{self.name}.{self.hub.host}") / "user" / self.name / ""

    @property
    def pages(self) -> URL:
        """The pages."""
        return self.hub.with_host(f"mutirao--service.{self.hub.host}") / "services/mutirao/"

    def _xsrf(self, path: str) -> str:
        base = self.server if path.startswith(f"/user/{self.name}") else self.hub
        cookies = self.http.cookie_jar.filter_cookies(base.with_path(path))
        return cookies["_xsrf"].value if "_xsrf" in cookies else ""
