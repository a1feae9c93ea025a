"""The parts of one instance: what each runs, as whom, what it knows of the others, and where it writes."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mutirao.accounts import Account, accounts
from mutirao.certificate import Certificate
from mutirao.config import Settings
from mutirao.errors import ConfigError
from mutirao.hub.broker import Charge
from mutirao.hub.place import Place
from mutirao.part import Part
from mutirao.upkeep import state_file


class Lineup:
    """Broker, forwarder, proxy, the gate's workers, pages, hub and warden; each gets only the secrets that it needs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = settings.service.data
        self.accounts = accounts(settings)

    def parts(self, place: Place) -> tuple[Part, ...]:
        """Every part, in the order in which they start."""
        python = sys.executable
        service = self.settings.service
        proxy_port = place.proxy_api_url.rpartition(":")[2]
        proxy_argv = [_node(), _proxy(), "--ip", service.host, "--port", str(service.port), "--api-ip", "127.0.0.1"]
        proxy_argv += ["--api-port", proxy_port, "--error-target", f"{place.hub_url}/hub/error"]
        proxy_argv += ["--log-level", "warn"]
        if self.settings.origins.apart:
            proxy_argv += ["--host-routing"]
        if self.settings.tls.cert:
            proxy_argv += Certificate.of(self.settings).install(self.data / "tls", self.proxy_uid)
        hub_config = Path(__file__).parent / "hub" / "jupyterhub_config.py"
        hub_argv = (python, "-m", "jupyterhub", "--config", str(hub_config))
        ours = self.accounts
        forwarder_env = self._forwarder_environment(place)
        return (
            self.part("broker", (python, "-m", "mutirao.hub.broker"), self._charge(place).dump(), None),
            self.part("forwarder", (python, "-m", "mutirao.hub.forward"), forwarder_env, ours.forwarder),
            replace(
                self.part("proxy", tuple(proxy_argv), {"CONFIGPROXY_AUTH_TOKEN": place.proxy_token}, ours.proxy),
                # The one right that it needs, where it is asked for a port below 1024.
                capabilities=("net_bind_service",) if self._has_low_port() else (),
            ),
            *self._gate_workers(place),
            self.part("pages", (python, "-m", "mutirao.web"), self._pages_environment(place), ours.pages),
            replace(
                self.part("hub", hub_argv, self._login_environment() | place.dump(), ours.hub),
                cwd=self.data / "hub",
                stop_timeout_s=60,
            ),
            self.part("warden", (python, "-m", "mutirao.hub.warden"), self._warden_environment(place), ours.warden),
        )

    def part(self, name: str, argv: tuple[str, ...], env: dict[str, str], account: Account | None) -> Part:
        """One part, which runs in a folder of its own where it has one."""
        kind = name.partition("-")[0]  # gate-0 and gate-1 share one
        home = self.data / "run" / kind if kind in self.homes() else self.data / "run"
        known = self.environment() | {"HOME": str(self.data / "hub" if name == "hub" else home)}
        return Part(name, argv, known | env, self._log(name), home, account)

    def homes(self) -> dict[str, Account | None]:
        """The parts with a folder of their own to run in, and whose it is."""
        ours = self.accounts
        return {
            "proxy": ours.proxy,
            "gate": ours.gate,
            "pages": ours.pages,
            "forwarder": ours.forwarder,
            "warden": ours.warden,
        }

    def environment(self) -> dict[str, str]:
        """What every part may know of our own environment."""
        keep = ("PATH", "LANG", "PYTHONPATH", "MUTIRAO_HOME", "MUTIRAO_SHARED", "MUTIRAO_LOG_LEVEL", "TZ")
        return {key: os.environ[key] for key in keep if key in os.environ} | {"HOME": "/nonexistent"}

    @property
    def proxy_uid(self) -> int:
        """Who reads the certificate's copy."""
        return self.accounts.proxy.uid if self.accounts.proxy else os.geteuid()

    def _has_low_port(self) -> bool:
        return any(0 < port < 1024 for port in (self.settings.service.port, self.settings.tls.redirect_port))

    def _charge(self, place: Place) -> Charge:
        uids = [account.uid if account else os.geteuid() for account in (self.accounts.hub, self.accounts.forwarder)]
        return Charge(self.settings, place.broker_socket, place.forwarder_port, *uids)

    def _forwarder_environment(self, place: Place) -> dict[str, str]:
        return {
            "MUTIRAO_FORWARDER_ADDRESS": place.forwarder_ip,
            "MUTIRAO_FORWARDER_PORT": str(place.forwarder_port),
            "MUTIRAO_HUB_URL": place.hub_url,
            "MUTIRAO_BROKER_SOCKET": place.broker_socket,
            "MUTIRAO_VISITORS": str(int(self.settings.sandbox.visitors)),
        }

    def _login_environment(self) -> dict[str, str]:
        """What the authenticator needs of our environment: named secrets, and the way through a corporate proxy."""
        wanted = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"}
        wanted |= self.settings.login.variables() | self.settings.store.hub_variables()
        return {key: os.environ[key] for key in wanted if key in os.environ}

    def _gate_workers(self, place: Place) -> Iterator[Part]:
        """The gate's workers; one that dies takes only the connections of its own servers along."""
        for number, gate_url in enumerate(place.gate_urls):
            name = f"gate-{number}"
            env = self._gate_environment(place) | {"MUTIRAO_GATE_URL": gate_url, "MUTIRAO_GATE_WORKER": name}
            yield self.part(name, (sys.executable, "-m", "mutirao.gate"), env, self.accounts.gate)

    def _gate_environment(self, place: Place) -> dict[str, str]:
        return {
            "MUTIRAO_GATE_SECRET": place.gate_secret,
            "MUTIRAO_DATABASE": self.settings.store_url,
            "MUTIRAO_PAGES_URL": f"{self.settings.origins.pages}/services/mutirao/",
            "MUTIRAO_SERVICE_TOKEN": place.service_token,
            "MUTIRAO_MAX_MESSAGE_MB": str(self.settings.gate.max_message_mb),
            "MUTIRAO_MAX_CONNECTIONS": str(self.settings.gate.max_connections),
            "MUTIRAO_JUDGE_TIMEOUT_S": str(self.settings.gate.judge_timeout_s),
            "MUTIRAO_VISITORS": str(int(self.settings.sandbox.visitors)),
            "MUTIRAO_CASES": self.settings.cases.model_dump_json(),
            "MUTIRAO_SCAN_BUDGET_S": str(self.settings.gate.scan_budget_s),
            "JUPYTERHUB_API_URL": place.hub_api_url,
        }

    def _warden_environment(self, place: Place) -> dict[str, str]:
        return {
            "MUTIRAO_DATABASE": self.settings.store_url,
            "JUPYTERHUB_API_URL": place.hub_api_url,
            "JUPYTERHUB_API_TOKEN": place.warden_token,
        }

    def _trusted(self) -> str:
        tls = self.settings.tls
        return ",".join(tls.trusted_proxies if tls.behind_proxy else ())

    def _pages_environment(self, place: Place) -> dict[str, str]:
        origins = self.settings.origins
        return {
            "MUTIRAO_DATABASE": self.settings.store_url,
            "MUTIRAO_COOKIE_SECRET": place.web_secret,
            "MUTIRAO_CONTACT": self.settings.service.contact,
            "MUTIRAO_LANGUAGE": self.settings.service.language,
            "MUTIRAO_PAGES_URL": f"{origins.pages}/services/mutirao/",
            "MUTIRAO_CASES": self.settings.cases.model_dump_json(),
            "MUTIRAO_ROLES": self.settings.roles.model_dump_json(),
            "MUTIRAO_MAIL": self.settings.mail.model_dump_json(),
            **self.settings.mail.variables(),
            "MUTIRAO_GATE_URLS": ",".join(place.gate_urls),
            "MUTIRAO_METRICS_TOKEN": self.settings.metrics_token,
            "MUTIRAO_STATE": str(state_file(self.data)),
            "JUPYTERHUB_SERVICE_URL": place.web_url,
            "JUPYTERHUB_SERVICE_PREFIX": "/services/mutirao/",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_API_URL": place.hub_api_url,
            "JUPYTERHUB_API_TOKEN": place.service_token,
            "JUPYTERHUB_CLIENT_ID": "service-mutirao",
            "MUTIRAO_SUBDOMAIN_HOST": self.settings.service.subdomain_host,
            "MUTIRAO_PUBLIC_URL": self.settings.public_url,
            "MUTIRAO_TRUSTED_PROXIES": self._trusted(),
            "MUTIRAO_HSTS_S": str(self.settings.tls.hsts_days * 86_400),
            "JUPYTERHUB_HOST": origins.to_hub,
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{origins.to_pages}/services/mutirao/oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:services", "access:services!service=mutirao"]',
            "JUPYTERHUB_OAUTH_SCOPES": '["access:services", "access:services!service=mutirao"]',
        }

    def _log(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"


def _node() -> str:
    found = os.environ.get("MUTIRAO_NODE") or shutil.which("node")
    if not found:
        raise ConfigError("Node.js is missing: start Mutirão through ./run, or install nodejs 20 or newer.")
    return found


def _proxy() -> str:
    found = os.environ.get("MUTIRAO_PROXY") or shutil.which("configurable-http-proxy")
    if not found:
        raise ConfigError("configurable-http-proxy is missing: start Mutirão through ./run, or npm install it.")
    return found
