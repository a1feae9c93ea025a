"""Traefik as a hub's proxy: it drops the path of a target, so the gate's claims are put back by a middleware."""

from typing import Any
from urllib.parse import urlsplit


class Prefixing:
    """Mix in before jupyterhub-traefik-proxy's classes (2.x): a target with a path becomes a prefix and a server."""

    def _dynamic_config_for_route(
        self, routespec: str, target: str, data: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        traefik, hub = super()._dynamic_config_for_route(routespec, target, data)  # type: ignore[misc]
        parts = urlsplit(target)
        path = parts.path.rstrip("/")
        if path:
            http = traefik["http"]
            for name, router in http["routers"].items():
                added = f"{name}_claims"
                router["middlewares"] = [*router.get("middlewares", []), added]
                http.setdefault("middlewares", {})[added] = {"addPrefix": {"prefix": path}}
            for service in http["services"].values():
                service["loadBalancer"]["servers"] = [{"url": f"{parts.scheme}://{parts.netloc}"}]
        return traefik, hub
