"""Starts hub, proxy, gate and pages as siblings, keeps each alive, and leaves nothing behind."""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import aiohttp

from mutirao.config import LoginKind, Settings
from mutirao.errors import ConfigError, MutiraoError, SandboxError
from mutirao.hub import environment
from mutirao.hub.invite import Invites
from mutirao.hub.place import Place
from mutirao.hub.spawner import open_sandboxes
from mutirao.part import Keeper, Part, PartError
from mutirao.sandbox.sandboxes import Sandboxes
from mutirao.unit import notify
from mutirao.upkeep import Upkeep, state_file

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 60
MEND_S = 60


def service_uid(settings: Settings) -> int:
    """The uid of proxy, gate and pages: the one before the members' range, and nobody else's."""
    return settings.sandbox.uid_first - 1


class Supervisor:
    """One running instance; `run` returns after SIGINT or SIGTERM, when everything is gone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = settings.service.data
        self.uid = service_uid(settings)
        self.keepers: list[Keeper] = []
        self.end = asyncio.Event()
        self.failure: MutiraoError | None = None

    async def run(self) -> None:
        """Start everything, say where it is, wait for the signal, stop everything."""
        self._check()
        _make(self.data, 0o711, 0)
        with _alone(self.data), _alone(Path("/run"), f"mutirao-{self.settings.sandbox.subnet.replace('/', '-')}.lock"):
            self._folders()
            offered = [environment.find(name, self.data) for name in self.settings.environments]
            environment.build(offered[0])
            self._migrate()
            place = self._place()
            sandboxes = open_sandboxes(place)
            upkeep = Upkeep(self.settings, self._environment())
            upkeep.prepare()
            chores: list[asyncio.Task[None]] = []
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.end.set)
            try:
                await sandboxes.recover()
                await sandboxes.prepare()
                await self._start(place)
                chores.append(asyncio.create_task(upkeep.run()))
                if not self.end.is_set():
                    self._greet(place)
                await self._wait(sandboxes)
            finally:
                print("Stopping …", file=sys.stderr, flush=True)
                notify("STOPPING=1")
                for chore in chores:
                    chore.cancel()
                await asyncio.gather(*chores, return_exceptions=True)
                async with contextlib.AsyncExitStack() as steps:
                    # Run last to first; one that fails does not keep the others from being stopped.
                    steps.push_async_callback(upkeep.sign)
                    steps.push_async_callback(sandboxes.teardown)
                    for keeper in self.keepers:
                        steps.push_async_callback(keeper.stop)
        if self.failure:
            raise self.failure
        print("Stopped; nothing was left behind.", file=sys.stderr, flush=True)

    async def _wait(self, sandboxes: Sandboxes) -> None:
        """Wait for the end; until then mend the packet filter, which somebody's restart of nftables may flush."""
        while not self.end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.end.wait(), MEND_S)
            try:
                await sandboxes.mend()
            except SandboxError as error:
                log.error("the packet filter can't be mended: %s", error)

    def _check(self) -> None:
        """What can be known to fail before anything is started."""
        if os.geteuid() != 0:
            raise SandboxError("Walls around runtimes need root: sudo ./run up")
        service = self.settings.service
        if self.settings.login.kind is LoginKind.DEMO and not _is_loopback(service.host):
            raise ConfigError(
                f"service.host is {service.host}, but the demo's one shared password is for loopback only: "
                "leave out --demo, or use --host 127.0.0.1."
            )
        if not _is_loopback(service.host):
            log.warning("listening on %s without TLS: put a proxy with TLS in front", service.host)
        family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((service.host, service.port))
            except OSError as error:
                raise ConfigError(
                    f"Can't listen on {service.host} port {service.port} ({error.strerror}): "
                    "choose another with --port or service.port."
                ) from error
        for program in ("bwrap", "nft", "ip"):
            if shutil.which(program) is None:
                raise SandboxError(f"{program} is missing: sudo ./run prepare installs it.")

    def _folders(self) -> None:
        for name, mode, uid in (
            ("", 0o711, 0),
            ("hub", 0o700, 0),
            ("sandbox", 0o711, 0),
            ("store", 0o700, self.uid),
            ("run", 0o711, self.uid),
            ("logs", 0o700, 0),
            ("environments", 0o755, 0),
        ):
            _make(self.data / name, mode, uid)
        for folder in (self.data, *self.data.parents):
            if not folder.stat().st_mode & 0o001:
                raise ConfigError(
                    f"service.data: the service's own user can't get through {folder}: chmod o+x {folder}, "
                    "or choose another folder with --data."
                )

    def _migrate(self) -> None:
        """Bring the store up to date as the service's own user, so that the files are its own."""
        code = "import os, sys; from mutirao.hub import guard; guard.prepare_store(os.environ['URL'], int(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(self.settings.policy.version)],
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            umask=0o077,
            cwd=self.data / "store",
            # Not on the command line, which everybody can read: the address may hold a password.
            env=self._environment() | {"URL": self.settings.store_url},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            *_, said = done.stderr.strip().splitlines() or ["it said nothing"]
            # A traceback ends with the error's class and its message.
            raise MutiraoError(f"The database can't be prepared: {said.partition('Error: ')[2] or said}")

    def _place(self) -> Place:
        subnet = ip_network(self.settings.sandbox.subnet)
        demo = self.settings.login.kind is LoginKind.DEMO
        ports = _free_ports("127.0.0.1", 4)
        operator = secrets.token_urlsafe(32) if demo and self.settings.login.operators else ""
        return Place(
            settings=self.settings,
            hub_ip=str(subnet[1]),
            hub_port=self._hub_port(ports[3]),
            proxy_api_url=f"http://127.0.0.1:{ports[0]}",
            gate_url=f"http://127.0.0.1:{ports[1]}",
            web_url=f"http://127.0.0.1:{ports[2]}",
            proxy_token=secrets.token_hex(32),
            gate_secret=secrets.token_hex(32),
            service_token=secrets.token_hex(32),
            supervisor_token=secrets.token_hex(32),
            web_secret=secrets.token_hex(32),
            demo_password=_demo_password() if demo else "",
            operator_password=operator,
        )

    def _hub_port(self, otherwise: int) -> int:
        """The hub's port of the last time where it is free: runtimes that outlived us know the hub by it."""
        kept = self.data / "hub" / "port"
        with contextlib.suppress(OSError, ValueError), socket.socket() as probe:
            port = int(kept.read_text())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))  # noqa: S104 - a probe, never listens
            return port
        kept.write_text(str(otherwise))
        return otherwise

    def _environment(self) -> dict[str, str]:
        """What every part may know of our own environment."""
        keep = ("PATH", "LANG", "PYTHONPATH", "MUTIRAO_HOME", "MUTIRAO_LOG_LEVEL", "TZ")
        return {key: os.environ[key] for key in keep if key in os.environ} | {"HOME": str(self.data / "run")}

    async def _start(self, place: Place) -> None:
        base = self._environment()
        python = sys.executable
        service = self.settings.service
        proxy_port = place.proxy_api_url.rpartition(":")[2]
        proxy_argv = [_node(), _proxy(), "--ip", service.host, "--port", str(service.port), "--api-ip", "127.0.0.1"]
        proxy_argv += ["--api-port", proxy_port, "--error-target", f"http://{place.hub_ip}:{place.hub_port}/hub/error"]
        proxy_argv += ["--log-level", "warn"]
        run = self.data / "run"
        hub_config = Path(__file__).parent / "hub" / "jupyterhub_config.py"
        gate_env = base | self._gate_environment(place)
        web_env = base | self._pages_environment(place)
        hub_env = base | self._login_environment() | {"HOME": "/root"} | place.dump()
        proxy_env = base | {"CONFIGPROXY_AUTH_TOKEN": place.proxy_token}
        parts = (
            Part("proxy", tuple(proxy_argv), proxy_env, self._log("proxy"), run, self.uid),
            Part("gate", (python, "-m", "mutirao.gate"), gate_env, self._log("gate"), run, self.uid),
            Part("pages", (python, "-m", "mutirao.web"), web_env, self._log("pages"), run, self.uid),
            Part(
                "hub",
                (python, "-m", "jupyterhub", "--config", str(hub_config)),
                hub_env,
                self._log("hub"),
                self.data / "hub",
                stop_timeout_s=60,
            ),
        )
        for part in parts:
            if self.end.is_set():
                return
            print(f"Starting {part.name} …", file=sys.stderr, flush=True)
            keeper = Keeper(part, self._dead)
            if part.name == "proxy":
                keeper.restarted = partial(self._reroute, place)
            self.keepers.append(keeper)
            await keeper.start()
        await self._answers(f"{self._local()}/hub/health")
        await self._answers(f"{self._local()}/services/mutirao/healthz")
        await self._answers(f"{place.gate_url}/healthz")

    def _login_environment(self) -> dict[str, str]:
        """What the authenticator needs of our environment: named secrets, and the way through a corporate proxy."""
        wanted = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"}
        wanted |= self.settings.login.variables() | self.settings.store.hub_variables()
        return {key: os.environ[key] for key in wanted if key in os.environ}

    def _gate_environment(self, place: Place) -> dict[str, str]:
        return {
            "MUTIRAO_GATE_URL": place.gate_url,
            "MUTIRAO_GATE_SECRET": place.gate_secret,
            "MUTIRAO_DATABASE": self.settings.store_url,
            "MUTIRAO_PAGES_URL": f"{self.settings.public_url}/services/mutirao/",
            "MUTIRAO_SERVICE_TOKEN": place.service_token,
            "MUTIRAO_MAX_MESSAGE_MB": str(self.settings.gate.max_message_mb),
            "MUTIRAO_JUDGE_TIMEOUT_S": str(self.settings.gate.judge_timeout_s),
            "JUPYTERHUB_API_URL": place.hub_api_url,
        }

    def _pages_environment(self, place: Place) -> dict[str, str]:
        return {
            "MUTIRAO_DATABASE": self.settings.store_url,
            "MUTIRAO_COOKIE_SECRET": place.web_secret,
            "MUTIRAO_CONTACT": self.settings.service.contact,
            "MUTIRAO_LANGUAGE": self.settings.service.language,
            "MUTIRAO_GATE_URL": place.gate_url,
            "MUTIRAO_METRICS_TOKEN": self.settings.metrics_token,
            "MUTIRAO_STATE": str(state_file(self.data)),
            "JUPYTERHUB_SERVICE_URL": place.web_url,
            "JUPYTERHUB_SERVICE_PREFIX": "/services/mutirao/",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_API_URL": place.hub_api_url,
            "JUPYTERHUB_API_TOKEN": place.service_token,
            "JUPYTERHUB_CLIENT_ID": "service-mutirao",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:services", "access:services!service=mutirao"]',
            "JUPYTERHUB_OAUTH_SCOPES": '["access:services", "access:services!service=mutirao"]',
        }

    def _local(self) -> str:
        service = self.settings.service
        host = "127.0.0.1" if service.host in ("", "0.0.0.0", "::") else service.host  # noqa: S104 - a comparison
        return f"http://{f'[{host}]' if ':' in host else host}:{service.port}"

    def _log(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"

    def _dead(self, keeper: Keeper, tail: str) -> None:
        self.failure = PartError(
            f"The {keeper.part.name} can't be kept alive; the end of {keeper.part.log_file}:\n{tail}"
        )
        self.end.set()

    async def _reroute(self, place: Place) -> None:
        """A proxy that was restarted knows no routes: have the hub tell it all again."""
        headers = {"Authorization": f"token {place.supervisor_token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for _ in range(50):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(f"{place.hub_api_url}/proxy") as answer:
                        if answer.ok:
                            return
                await asyncio.sleep(0.2)
        log.warning("the hub did not tell the new proxy its routes")

    async def _answers(self, url: str) -> None:
        """Wait until a part answers, or say which one does not, with the ends of the logs."""
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not self.end.is_set():
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as answer:
                        if answer.ok:
                            return
                if asyncio.get_running_loop().time() > deadline:
                    tails = "\n".join(f"--- {k.part.name}\n{k.tail(8)}" for k in self.keepers)
                    raise PartError(f"{url} did not answer within {READY_TIMEOUT_S} s. The ends of the logs:\n{tails}")
                await asyncio.sleep(0.05)

    def _greet(self, place: Place) -> None:
        url = self.settings.public_url
        lines = ["", f"Mutirão is ready:  {url}", ""]
        if place.demo_password:
            lines += [f"Log in with any name and this password:  {place.demo_password}"]
            if place.operator_password:
                names = ", ".join(self.settings.login.operators)
                lines += [f"Operators ({names}) log in with:  {place.operator_password}"]
        elif self.settings.login.kind is LoginKind.NATIVE:
            invites = Invites(self.data / "hub" / "invites")
            if not invites.operator_provided():
                token = invites.issue(operator=True)
                lines += ["You are the first operator. Sign up by this link (it works once, for 7 days):"]
                lines += [f"  {url}/hub/signup?invite_key={token}"]
        lines += ["Ctrl-C stops everything.", ""]
        print("\n".join(lines), flush=True)
        notify("READY=1")


def _demo_password() -> str:
    password = os.environ.get("MUTIRAO_PASSWORD") or secrets.token_urlsafe(9)
    if len(password) < 8:
        raise ConfigError("MUTIRAO_PASSWORD is shorter than 8 characters: choose a longer one, or unset it.")
    return password


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _free_ports(host: str, count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


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


def _make(path: Path, mode: int, uid: int) -> None:
    """Make a folder, or give the one that stands its mode and owner."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, uid, uid)
    except OSError as error:
        raise ConfigError(
            f"service.data: {path} can't be made or changed ({error.strerror}): choose another folder with --data."
        ) from error


@contextlib.contextmanager
def _alone(folder: Path, name: str = "lock") -> Iterator[None]:
    """Hold the lock of a folder; a second instance is refused with a clear word."""
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"Another Mutirão runs with {folder / name}: "
                "stop it, or give this one its own --data and sandbox.subnet."
            ) from error
        yield
