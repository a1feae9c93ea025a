"""Where each part is seen from outside: hub, pages and members each on an origin of their own, or all on one.

With `service.subdomain_host` the hub is on that host, members are on NAME.host and the pages are on
mutirao--service.host (JupyterHub's scheme). Without it everything shares one origin, which is right on loopback only:
a page that one member's runtime serves could act as whoever opens it.
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

SERVICE_LABEL = "mutirao--service"
RESERVED = frozenset(
    [
        "autoconfig",
        "autodiscover",
        "hub",
        "imap",
        "isatap",
        "localhost",
        "mail",
        "mta-sts",
        "ns",
        "ns1",
        "ns2",
        "pop",
        "smtp",
        "wpad",
        "www",
    ]
)
"""Names that browsers, mail programs or people take for something of the operator's."""

HASH_DIGITS = 20
"""80 bits: JupyterHub's own 28 can be searched through in minutes, and equal labels would share an origin."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Origins as browsers see them, without a slash at the end; `domain` is "" where everything shares one."""

    hub: str = ""
    pages: str = ""
    domain: str = ""

    @property
    def apart(self) -> bool:
        """True where members' pages have origins of their own."""
        return bool(self.domain)

    @property
    def to_hub(self) -> str:
        """What a link to the hub begins with; "" where it can stay root-relative, by whatever address one came."""
        return self.hub if self.apart else ""

    @property
    def to_pages(self) -> str:
        """What a link to the pages begins with, as `to_hub`."""
        return self.pages if self.apart else ""

    @property
    def secure(self) -> bool:
        """True where browsers come by https."""
        return self.hub.startswith("https://")

    @property
    def members(self) -> str:
        """All origins of members and services as a Content-Security-Policy names them; "" where there is one only."""
        if not self.domain:
            return ""
        parts = urlsplit(self.hub)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://*.{self.domain}{port}"


def origins(subdomain_host: str, public_url: str = "", pages_host: str = "") -> Origins:
    """The origins of a hub with this `subdomain_host` ("" for none) and the address that members type.

    `pages_host` is for hubs with another rule for the hosts of services.
    """
    if not subdomain_host:
        parts = urlsplit(public_url)
        origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        return Origins(origin, origin)
    parts = urlsplit(subdomain_host)
    domain = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    pages = pages_host or f"{SERVICE_LABEL}.{domain}"
    return Origins(f"{parts.scheme}://{domain}{port}", f"{parts.scheme}://{pages}{port}", domain)


def subdomain(name: str, domain: str, kind: str) -> str:
    """JupyterHub's `subdomain_hook`: NAME.domain where the name is a plain label, else a label with a long hash.

    Unlike the hub's own hook it gives no two names one host, whatever their case, and keeps RESERVED names free.
    """
    # Imported late: most parts need no hub.
    from jupyterhub.utils import subdomain_hook_idna

    if kind != "user":
        return str(subdomain_hook_idna(name, domain, kind))
    host = str(subdomain_hook_idna(name, domain, kind))
    label = host.removesuffix(f".{domain}")
    hashed = "--" in label and not label.startswith("xn--")
    if hashed or name in RESERVED or label != label.lower():
        stub = "".join(char for char in name.lower() if char.isascii() and char.isalnum())[:8] or "x"
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
        return f"u-{stub}--{digest}.{domain}"
    return host


def is_loopback(host: str) -> bool:
    """True for names and addresses that only this machine can mean."""
    host = host.strip("[]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """True for an IP address, which can have no subdomains."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
