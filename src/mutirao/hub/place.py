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
    proxy_api_url: str = ""
    gate_urls: tuple[str, ...] = ()
    web_url: str = ""
    proxy_token: str = ""
    gate_secret: str = ""
    service_token: str = ""
    web_secret: str = ""
    supervisor_token: str = ""
    demo_password: str = ""
    operator_password: str = ""

    @property
    def gate_url(self) -> str:
        """The gate's first worker; `gate.shard.worker_of` knows which one serves a server."""
        return self.gate_urls[0]

    @property
    def hub_api_url(self) -> str:
        """The hub's REST API."""
        return f"http://{self.hub_ip}:{self.hub_port}/hub/api"

    def dump(self) -> dict[str, str]:
        """The environment variable that carries this place to the hub."""
        return {VARIABLE: json.dumps(asdict(self) | {"settings": self.settings.model_dump(mode="json")})}


def here() -> Place:
    """The place of the running part."""
    text = os.environ.get(VARIABLE)
    if not text:
        raise ConfigError(f"{VARIABLE} is not set: this part is started by `mutirao up`.")
    values = json.loads(text)
    settings = Settings.model_validate(values["settings"])
    return Place(**values | {"settings": settings, "gate_urls": tuple(values["gate_urls"])})
