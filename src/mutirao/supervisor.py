"""Starts broker, forwarder, proxy, gate, pages and hub as siblings, keeps each alive, and leaves nothing behind."""

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import aiohttp

from mutirao.accounts import Account, hand_over, own
from mutirao.certificate import Certificate
from mutirao.config import Settings
from mutirao.entrance import LoginKind
from mutirao.errors import ConfigError, MutiraoError, SandboxError
from mutirao.gate.shard import workers_by_cores
from mutirao.hub import environment
from mutirao.hub.broker import open_sandboxes, socket_path
from mutirao.hub.place import Place
from mutirao.lineup import Lineup
from mutirao.part import EX_CONFIG, Keeper, Part, PartError
from mutirao.reach import need_origins, unencrypted
from mutirao.sandbox.client import BrokerAway, Client
from mutirao.sandbox.machine import dangerous_groups, need_programs, need_rootless
from mutirao.sandbox.rootless import LESS
from mutirao.unit import notify
from mutirao.upkeep import Upkeep

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 60
LOOK_S = 10
"""How often a renewed certificate is looked for."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class Supervisor:
    """One running instance; `run` returns after SIGINT or SIGTERM, when everything is gone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = settings.service.data
        self.lineup = Lineup(settings)
        self.accounts = self.lineup.accounts
        self.keepers: list[Keeper] = []
        self.end = asyncio.Event()
        self.failure: MutiraoError | None = None

    async def run(self) -> None:
        """Start everything, say where it is, wait for the signal, stop everything."""
        self._check()
        own(self.data, 0o711, None)
        with _alone(self.data), self._alone_on_the_machine():
            self._folders()
            offered = [environment.find(name, self.data) for name in self.settings.environments]
            environment.build(offered[0])
            self._migrate()
            place = self._place()
            sandboxes = open_sandboxes(self.settings, place.forwarder_port)
            place = replace(place, broker_socket=str(socket_path(self.settings, sandboxes)))
            upkeep = Upkeep(self.settings, self.lineup.environment())
            upkeep.prepare()
            chores: list[asyncio.Task[None]] = []
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.end.set)
            try:
                await self._start(place)
                chores.append(asyncio.create_task(upkeep.run()))
                if not self.end.is_set():
                    for keeper in self.keepers:
                        keeper.patient = True
                    self._greet(place)
                await self._wait()
            finally:
                print("Stopping …", file=sys.stderr, flush=True)
                notify("STOPPING=1")
                for chore in chores:
                    chore.cancel()
                await asyncio.gather(*chores, return_exceptions=True)
                async with contextlib.AsyncExitStack() as steps:
                    # Run last to first; one that fails does not keep the others from being stopped.
                    # What the broker built is taken down last of all, and here: also where no broker can run.
                    steps.callback(Path(place.broker_socket).unlink, missing_ok=True)
                    steps.push_async_callback(upkeep.sign)
                    steps.push_async_callback(sandboxes.teardown)
                    for keeper in self.keepers:
                        steps.push_async_callback(keeper.stop)
        if self.failure:
            raise self.failure
        print("Stopped; nothing was left behind.", file=sys.stderr, flush=True)

    async def _wait(self) -> None:
        """Wait for the end; until then look now and then for a renewed certificate."""
        while not self.end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.end.wait(), LOOK_S)
            await self._renew()

    async def _renew(self) -> None:
        """Give the proxy a renewed certificate: the proxy alone starts again, runtimes and the rest go on."""
        if not self.settings.tls.cert or self.end.is_set():
            return
        certificate = Certificate.of(self.settings)
        folder = self.data / "tls"
        if certificate.installed(folder):
            return
        try:
            certificate.check()
            certificate.install(folder, self.lineup.proxy_uid)
        except ConfigError as error:
            log.error("the renewed certificate is not used: %s", error)
            return
        for keeper in self.keepers:
            if keeper.part.name == "proxy":
                keeper.restart()

    def _alone_on_the_machine(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else's runtimes have our addresses; without root they are taken from the folder's name."""
        if os.geteuid() != 0:
            return contextlib.nullcontext()
        return _alone(Path("/run"), f"mutirao-{self.settings.sandbox.subnet.replace('/', '-')}.lock")

    def _check(self) -> None:
        """What can be known to fail before anything is started."""
        if os.geteuid() == 0:
            need_programs()
        else:
            need_rootless()
            print("Without root the walls are lower:", *LESS, sep="\n  ", file=sys.stderr)
            if groups := dangerous_groups():
                raise SandboxError(
                    f"Members would have this user's groups {', '.join(groups)}, which can't be dropped without root: "
                    "start as a user without them, or with sudo."
                )
        service = self.settings.service
        if self.settings.login.kind is LoginKind.DEMO and not self.settings.local_only:
            raise ConfigError(
                f"service.host is {service.host}, but the demo's one shared password is for loopback only: "
                "leave out --demo, or use --host 127.0.0.1."
            )
        need_origins(self.settings)
        if said := unencrypted(self.settings):
            log.warning("members come by %s: %s", self.settings.public_url, said)
        if self.settings.tls.cert:
            Certificate.of(self.settings).check()
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

    def _folders(self) -> None:
        ours = self.accounts
        for name, mode, account in (
            ("", 0o711, None),
            ("hub", 0o700, ours.hub),
            ("sandbox", 0o711, None),
            # Files in it get its group, and both parts that use the database belong to that.
            ("store", 0o2770, ours.gate),
            ("run", 0o711, None),
            ("logs", 0o700, None),
            ("environments", 0o755, None),
            *((f"run/{name}", 0o700, account) for name, account in self.lineup.homes().items()),
        ):
            own(self.data / name, mode, account)
        for name, account in (("hub", ours.hub), ("store", ours.gate)):
            hand_over(self.data / name, account)
        for folder in (self.data, *self.data.parents) if self.accounts.separate else ():
            if not folder.stat().st_mode & 0o001:
                raise ConfigError(
                    f"service.data: the service's own user can't get through {folder}: chmod o+x {folder}, "
                    "or choose another folder with --data."
                )

    def _migrate(self) -> None:
        """Bring the store up to date as one of the two parts that share it, so that the files are theirs."""
        code = (
            "import os, sys; from mutirao.hub.guard import prepare_store; from mutirao.store.store import make_shared; "
            "make_shared(os.environ['URL']); prepare_store(os.environ['URL'], int(sys.argv[1]))"
        )
        # Not on the command line, which everybody can read: the address may hold a password.
        secret = {"URL": self.settings.store_url}
        done = self._as(self.accounts.gate, "store", code, str(self.settings.policy.version), env=secret)
        if done.returncode:
            *_, said = done.stderr.strip().splitlines() or ["it said nothing"]
            # A traceback ends with the error's class and its message.
            raise MutiraoError(f"The database can't be prepared: {said.partition('Error: ')[2] or said}")

    def _as(
        self,
        account: Account | None,
        folder: str,
        code: str,
        *arguments: str,
        env: Mapping[str, str] = NOTHING,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a few lines of Python as one of the parts: root writes into no folder that is not root's."""
        part = Part("step", (sys.executable, "-c", code, *arguments), {}, Path(os.devnull), self.data / folder, account)
        return subprocess.run(
            part.command(),
            umask=part.account.umask if part.account else 0o077,
            cwd=part.cwd,
            env=self.lineup.environment() | dict(env),
            capture_output=True,
            text=True,
            check=False,
        )

    def _place(self) -> Place:
        subnet = ip_network(self.settings.sandbox.subnet)
        demo = self.settings.login.kind is LoginKind.DEMO
        workers = self.settings.gate.workers or workers_by_cores()
        ports = free_ports("127.0.0.1", 4 + workers)
        operator = secrets.token_urlsafe(32) if demo and self.settings.login.operators else ""
        return Place(
            settings=self.settings,
            hub_ip="127.0.0.1",
            hub_port=ports[1],
            forwarder_ip=str(subnet[1]) if os.geteuid() == 0 else "127.0.0.1",
            forwarder_port=self._forwarder_port(ports[3]),
            proxy_api_url=f"http://127.0.0.1:{ports[0]}",
            gate_urls=tuple(f"http://127.0.0.1:{port}" for port in ports[4:]),
            web_url=f"http://127.0.0.1:{ports[2]}",
            proxy_token=secrets.token_hex(32),
            gate_secret=secrets.token_hex(32),
            service_token=secrets.token_hex(32),
            supervisor_token=secrets.token_hex(32),
            warden_token=secrets.token_hex(32),
            web_secret=secrets.token_hex(32),
            demo_password=_demo_password() if demo else "",
            operator_password=operator,
        )

    def _forwarder_port(self, otherwise: int) -> int:
        """The forwarder's port of the last time where it is free: runtimes that outlived us know the hub by it."""
        kept = self.data / "sandbox" / "port"
        with contextlib.suppress(OSError, ValueError), socket.socket() as probe:
            port = int(kept.read_text())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))  # noqa: S104 - a probe, never listens
            return port
        kept.write_text(str(otherwise))
        return otherwise

    async def _start(self, place: Place) -> None:
        for part in self.lineup.parts(place):
            if self.end.is_set():
                return
            print(f"Starting {part.name} …", file=sys.stderr, flush=True)
            keeper = Keeper(part, self._dead)
            if part.name == "proxy":
                keeper.restarted = partial(self._reroute, place)
            self.keepers.append(keeper)
            await keeper.start()
            if part.name == "broker":
                await self._broker_answers(place)
        origins = self.settings.origins
        await self._answers(f"{self.settings.local_url}/hub/health", origins.hub)
        await self._answers(f"{self.settings.local_url}/services/mutirao/healthz", origins.pages)
        for gate_url in place.gate_urls:
            await self._answers(f"{gate_url}/healthz")

    def _dead(self, keeper: Keeper, tail: str) -> None:
        status = keeper.process.returncode if keeper.process else None
        if status == EX_CONFIG and tail:
            # It said in its last line what can't be, in a sentence that is meant for the operator.
            self.failure = MutiraoError(tail.splitlines()[-1])
        else:
            self.failure = PartError(
                f"The {keeper.part.name} can't be kept alive; the end of {keeper.part.log_file}:\n{tail}"
            )
        self.end.set()

    async def _broker_answers(self, place: Place) -> None:
        """Wait until the machine is ready for runtimes, which the broker's first answer says."""
        client = Client(Path(place.broker_socket), patience_s=0.2)
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while not self.end.is_set():
            with contextlib.suppress(BrokerAway):
                await client.who("")
                return
            if asyncio.get_running_loop().time() > deadline:
                raise PartError(f"The broker did not answer within {READY_TIMEOUT_S} s:\n{self.keepers[0].tail(8)}")

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

    async def _answers(self, url: str, origin: str = "") -> None:
        """Wait until a part answers (asked by the host of `origin`), or say which does not, with the ends of logs."""
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        headers = {"Host": urlsplit(origin).netloc} if origin else {}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not self.end.is_set():
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    # Our own certificate names the host that members type, not this address.
                    async with session.get(url, headers=headers, ssl=False) as answer:
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
        elif self.settings.login.kind is LoginKind.NATIVE and (token := self._first_invite()):
            lines += ["You are the first operator. Sign up by this link (it works once, for 7 days):"]
            lines += [f"  {url}/hub/signup?invite_key={token}"]
        lines += ["Ctrl-C stops everything.", ""]
        print("\n".join(lines), flush=True)
        notify("READY=1")

    def _first_invite(self) -> str:
        """An operator's invite where there never was one, else nothing; kept by the hub's own user."""
        code = (
            "import sys; from pathlib import Path; from mutirao.hub.invite import Invites; "
            "i = Invites(Path(sys.argv[1])); print('' if i.operator_provided() else i.issue(operator=True))"
        )
        done = self._as(self.accounts.hub, "hub", code, str(self.data / "hub" / "invites"))
        if done.returncode:
            raise MutiraoError(f"The first invite can't be written: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()


def _demo_password() -> str:
    password = os.environ.get("MUTIRAO_PASSWORD") or secrets.token_urlsafe(9)
    if len(password) < 8:
        raise ConfigError("MUTIRAO_PASSWORD is shorter than 8 characters: choose a longer one, or unset it.")
    return password


def free_ports(host: str, count: int) -> list[int]:
    """Ports that are free now, below those that the kernel hands out: nobody's outgoing connection takes them."""
    handed_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lowest, end = (10_000, handed_out) if handed_out > 20_000 else (20_000, 65_536)
    found: list[int] = []
    for port in random.SystemRandom().sample(range(lowest, end), 1000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            found.append(port)
        if len(found) == count:
            return found
    raise SandboxError(f"There are not {count} free ports between {lowest} and {end} on {host}: stop what holds them.")


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
