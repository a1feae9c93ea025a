"""The certificate and key for browsers: checked before they are used, and copied to where only the proxy reads them."""

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from mutirao.config import Settings
from mutirao.errors import ConfigError

RENEW_BEFORE = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A pair of PEM files, and the host names that it should be good for."""

    cert: Path
    key: Path
    redirect_port: int = 0
    hosts: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "Certificate":
        """The pair that the settings name, for the hub's host and its subdomains."""
        domain = settings.origins.domain
        hosts = (domain, f"*.{domain}") if domain else ()
        return cls(Path(settings.tls.cert), Path(settings.tls.key), settings.tls.redirect_port, hosts)

    def check(self, now: datetime | None = None) -> tuple[str, ...]:
        """What is worth a word about a pair that works; ConfigError for one that doesn't."""
        try:
            pem = self.cert.read_bytes()
            self.key.read_bytes()
        except OSError as error:
            raise ConfigError(f"tls: {error.filename} can't be read: {error.strerror}.") from error
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.cert, self.key, password="")
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise ConfigError(
                f"tls: {self.cert} and {self.key} are no pair of certificate and unencrypted key in PEM: {reason}."
            ) from error
        found = x509.load_pem_x509_certificates(pem)[0]
        now = now or datetime.now(UTC)
        if found.not_valid_after_utc <= now:
            raise ConfigError(f"tls.cert: {self.cert} lapsed on {found.not_valid_after_utc:%Y-%m-%d}: renew it.")
        words = []
        if found.not_valid_after_utc - now < RENEW_BEFORE:
            words.append(f"lapses on {found.not_valid_after_utc:%Y-%m-%d}")
        named = _names(found)
        missing = [host for host in self.hosts if host not in named]
        if missing:
            words.append(f"does not name {' and '.join(missing)}")
        return tuple(words)

    def install(self, folder: Path, uid: int) -> list[str]:
        """Copy the pair for the proxy's uid alone; the proxy's arguments that use it. ConfigError without room."""
        try:
            # Root's own folder, in one that is root's: nobody can put a link where root is about to write.
            folder.mkdir(mode=0o710, exist_ok=True)
            folder.chmod(0o710)
            os.chown(folder, -1, uid)
            for source, name in ((self.cert, "cert.pem"), (self.key, "key.pem")):
                _copy(source, folder / name, uid)
        except OSError as error:
            raise ConfigError(f"tls: the proxy's copy in {folder} can't be made: {error.strerror}.") from error
        arguments = ["--ssl-key", str(folder / "key.pem"), "--ssl-cert", str(folder / "cert.pem")]
        if self.redirect_port:
            arguments += ["--redirect-port", str(self.redirect_port)]
        return arguments

    def installed(self, folder: Path) -> bool:
        """True while the proxy's copy is what the files hold now."""
        try:
            pairs = ((self.cert, folder / "cert.pem"), (self.key, folder / "key.pem"))
            return all(source.read_bytes() == copy.read_bytes() for source, copy in pairs)
        except OSError:
            # In the middle of a renewal: look again later.
            return True


def _copy(source: Path, target: Path, uid: int) -> None:
    fresh = target.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400), "wb") as file:
        os.fchown(file.fileno(), uid, uid)
        file.write(source.read_bytes())
    fresh.replace(target)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {name.lower() for name in names.get_values_for_type(x509.DNSName)}
