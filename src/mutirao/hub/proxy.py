"""JupyterHub's proxy, guarded: each member's server gets twin routes; what reaches or starts a kernel meets the gate.

The twins are added before the server's own route and deleted after it, so that no request to a kernel ever finds the
server's route alone. The hub's route check sees a server's route only while its twins stand, and so repairs all.
"""

import asyncio
import os
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy, Proxy
from traitlets import Unicode, default

from mutirao.errors import ConfigError
from mutirao.gate.route import route_for, twin_specs, twin_target
from mutirao.gate.shard import split_urls, worker_of

_TWIN_OF = "mutirao_twin_of"

Routes = dict[str, dict[str, Any]]


class Guarded(Proxy):  # type: ignore[misc]
    """Mix in before any JupyterHub proxy class that prepends a target's path to what it passes on."""

    gate_url = Unicode(
        help="""Where the gate listens, as the proxy reaches it: http://host:port. Several workers: one address each,
        with commas. Default: MUTIRAO_GATE_URL."""
    ).tag(config=True)
    gate_secret = Unicode(
        help="""The secret that hub and gate share; it signs the routes. Default: MUTIRAO_GATE_SECRET."""
    ).tag(config=True)

    _halves: frozenset[str] = frozenset()

    @default("gate_url")
    def _gate_url_default(self) -> str:
        return os.environ.get("MUTIRAO_GATE_URL", "")

    @default("gate_secret")
    def _gate_secret_default(self) -> str:
        return os.environ.get("MUTIRAO_GATE_SECRET", "")

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Add a route; for a member's server, its twins first."""
        routespec = self.validate_routespec(routespec)
        if _is_server(data):
            twin = self._twin_target(routespec, target, data)
            for spec in twin_specs(routespec):
                await super().add_route(spec, twin, {_TWIN_OF: routespec})
        await super().add_route(routespec, target, dict(data or {}))

    async def delete_route(self, routespec: str) -> None:
        """Delete a route, then its twins where there are any."""
        routespec = self.validate_routespec(routespec)
        stored = await super().get_all_routes()
        await super().delete_route(routespec)
        for spec in twin_specs(routespec):
            if spec in stored:
                await super().delete_route(spec)

    async def get_all_routes(self) -> Routes:
        """The routes as the hub should see them.

        No twins; a server's route only while each twin leads to the gate with the right claims, and with the latest
        `last_activity` of all.
        """
        stored: Routes = await super().get_all_routes()
        seen: Routes = {}
        halves = {route["data"][_TWIN_OF] for route in stored.values() if _TWIN_OF in route["data"]} - stored.keys()
        for routespec, route in stored.items():
            if _TWIN_OF in route["data"]:
                continue
            if _is_server(route["data"]):
                twins = [stored.get(spec, {"target": None, "data": {}}) for spec in twin_specs(routespec)]
                target = self._twin_target(routespec, route["target"], route["data"])
                if any(twin["target"] != target for twin in twins):
                    halves.add(routespec)
                    continue
                route = {**route, "data": _with_latest_activity(route["data"], *(twin["data"] for twin in twins))}
            seen[routespec] = route
        self._halves = frozenset(halves)
        return seen

    async def check_routes(
        self, user_dict: dict[Any, Any], service_dict: dict[str, Any], routes: Routes | None = None
    ) -> None:
        """Repair what is wanted (the hub's own check), and delete halves that nobody wants."""
        if not routes:
            routes = await self.get_all_routes()
        # The hub's check can't delete what it is not shown: twins, or a server's route, that stands alone.
        wanted = {
            spawner.proxy_spec
            for user in user_dict.values()
            for spawner in user.spawners.values()
            if spawner.ready or spawner.pending
        }
        await asyncio.gather(*(self._delete_half(spec) for spec in self._halves - wanted))
        await super().check_routes(user_dict, service_dict, routes)

    async def _delete_half(self, routespec: str) -> None:
        self.log.warning("Deleting stale route %s, or its twins", routespec)
        for spec in (routespec, *twin_specs(routespec)):
            await super().delete_route(spec)

    def _twin_target(self, routespec: str, target: str, data: dict[str, Any]) -> str:
        for name, value in (("gate_url", self.gate_url), ("gate_secret", self.gate_secret)):
            if not value:
                raise ConfigError(
                    f"GuardedProxy.{name} is empty: set c.GuardedProxy.{name} in jupyterhub_config.py, "
                    f"or MUTIRAO_{name.upper()} in the hub's environment."
                )
        route = route_for(routespec, target, data["user"], data["server_name"])
        worker = worker_of(split_urls(self.gate_url), route.user, route.server)
        return twin_target(worker, route, self.gate_secret)


class GuardedProxy(Guarded, ConfigurableHTTPProxy):  # type: ignore[misc]
    """configurable-http-proxy with a gate before every kernel."""


def _is_server(data: dict[str, Any] | None) -> bool:
    return bool(data) and "user" in data and "server_name" in data  # type: ignore[operator]


def _with_latest_activity(own: dict[str, Any], *twins: dict[str, Any]) -> dict[str, Any]:
    # ISO 8601 in UTC as the proxy writes it: text order is time order.
    times = [data["last_activity"] for data in (own, *twins) if data.get("last_activity")]
    return {**own, "last_activity": max(times)} if times else own
