"""How the service is reached: what must hold before it starts, and what the doctor says of names and certificate."""

import socket

from mutirao.certificate import Certificate
from mutirao.config import Settings
from mutirao.errors import ConfigError
from mutirao.origins import is_loopback
from mutirao.sandbox.doctor import Check, State

NO_ORIGINS = (
    "service.host is {host} and members come by {public_url}, but service.subdomain_host is not set: pages that one "
    "member's runtime serves would share an origin with the hub and with every other member, and could act as whoever "
    "opens them. Set service.subdomain_host to https://HOST (with wildcard DNS for *.HOST), use --host 127.0.0.1, or, "
    "where all members trust one another, set service.shared_origin_accepted = true."
)


def need_origins(settings: Settings) -> None:
    """ConfigError where members from elsewhere would share one origin, and nobody has accepted that."""
    service = settings.service
    if not settings.local_only and not service.subdomain_host and not service.shared_origin_accepted:
        raise ConfigError(NO_ORIGINS.format(host=service.host, public_url=settings.public_url))


def unencrypted(settings: Settings) -> str:
    """What to say where passwords would travel in the clear; empty where they don't."""
    plain = not settings.tls.cert and not settings.tls.behind_proxy
    if plain and not settings.local_only:
        return "no TLS: give [tls] cert and key, or set behind_proxy where a proxy in front does it"
    return ""


def examine(settings: Settings) -> tuple[Check, ...]:
    """Lines of the doctor's report about origins, names and encryption."""
    return (_origins(settings), _names(settings), _tls(settings))


def _origins(settings: Settings) -> Check:
    try:
        need_origins(settings)
    except ConfigError:
        return Check(
            "origins",
            State.LACK,
            "members, hub and pages share one origin, and others than this machine can come in",
            "Set service.subdomain_host (docs/howto/tls.md).",
        )
    if settings.origins.apart:
        return Check("origins", State.OK, f"members on {settings.origins.members}")
    if settings.local_only:
        return Check("origins", State.OK, "one for all, on loopback")
    do = "Every member can act as every other; set service.subdomain_host before strangers come."
    return Check("origins", State.NOTE, "one for all, as service.shared_origin_accepted says", do)


def _names(settings: Settings) -> Check:
    domain = settings.origins.domain
    if not domain:
        return Check("names", State.OK, "no subdomains are needed")
    if is_loopback(domain):
        return Check("names", State.OK, f"*.{domain} is this machine, in Chromium and Firefox")
    missing = [host for host in (domain, f"mutirao--service.{domain}") if not _resolves(host)]
    if missing:
        do = f"Let {domain} and *.{domain} lead to this machine in the DNS."
        return Check("names", State.NOTE, f"{' and '.join(missing)} can't be found from here", do)
    return Check("names", State.OK, f"{domain} and its subdomains are found")


def _tls(settings: Settings) -> Check:
    if settings.tls.cert:
        try:
            words = Certificate.of(settings).check()
        except ConfigError as error:
            return Check("tls", State.LACK, str(error), "Give a PEM certificate and its unencrypted key.")
        if words:
            do = "Get one for the host and *.HOST; it is taken up within a minute, without a restart."
            return Check("tls", State.NOTE, f"the certificate {', and '.join(words)}", do)
        return Check("tls", State.OK, settings.tls.cert)
    said = unencrypted(settings)
    if said:
        return Check("tls", State.NOTE, said, "docs/howto/tls.md")
    if settings.tls.behind_proxy and not settings.origins.secure:
        do = "Set service.subdomain_host to the https:// address that members type."
        return Check("tls", State.NOTE, f"a proxy does it, but members come by {settings.public_url}", do)
    return Check("tls", State.OK, "a proxy in front" if settings.tls.behind_proxy else "not needed on loopback")


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
