"""Where this instance's parts are: what the supervisor chose at start, handed to each part in its environment."""

import json
import os
from dataclasses import asdict, dataclass

from mutirao.config import Settings
from mutirao.errors import ConfigError

VARIABLE = "MUTIRAO_PLACE"


@dataclass(frozen=True, slots=True)
class Place:
    """Settings, addresses (URLs without a slash at their end) and secrets of one running instance."""

    settings: Settings
    hub_ip: str
    hub_port: int
    forwarder_ip: str = ""
    forwarder_port: int = 0
    broker_socket: str = ""
    proxy_api_url: str = ""
    gate_urls: tuple[str, ...] = ()
    web_url: str = ""
    proxy_token: str = ""
    gate_secret: str = ""
    service_token: str = ""
    web_secret: str = ""
    supervisor_token: str = ""
    warden_token: str = ""
    demo_password: str = ""
    operator_password: str = ""

    @property
    def hub_url(self) -> str:
        """The hub, which listens on loopback only."""
        return f"http://{self.hub_ip}:{self.hub_port}"

    @property
    def gate_url(self) -> str:
        """The gate's first worker; `gate.shard.worker_of` knows which one serves a server."""
        return self.gate_urls[0]

    @property
    def hub_api_url(self) -> str:
        """The hub's REST API."""
        return f"{self.hub_url}/hub/api"

    @property
    def forwarder_url(self) -> str:
        """What runtimes know as the hub."""
        return f"http://{self.forwarder_ip}:{self.forwarder_port}"

    def dump(self) -> dict[str, str]:
        """The environment variable that carries this place to the hub, without what the hub need not know."""
        settings = self.settings.model_dump(mode="json", exclude={"store": {"url"}})
        return {VARIABLE: json.dumps(asdict(self) | {"settings": settings, "web_secret": ""})}


def here() -> Place:
    """The place of the running part."""
    text = os.environ.get(VARIABLE)
    if not text:
        raise ConfigError(f"{VARIABLE} is not set: this part is started by `mutirao up`.")
    values = json.loads(text)
    settings = Settings.model_validate(values["settings"])
    return Place(**values | {"settings": settings, "gate_urls": tuple(values["gate_urls"])})
