"""The documented Caddy and nginx in front of a real service: names, websockets, great bodies, long silence, who asks."""

import asyncio
import contextlib
import io
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flows import certificates
from tests.flows.apart import MemberApart
from tests.flows.ask import ask
from tests.flows.conftest import HOST
from tests.flows.service import PASSWORD, ROOT, Service, free_port, running

HOWTO = ROOT / "docs" / "howto" / "tls.md"
GREAT_BYTES = 100_000_000
MINER = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W"


@dataclass
class Front:
    """A proxy in front, and the service behind it."""

    service: Service
    url: str
    http_port: int

    def member(self, name: str) -> MemberApart:
        return MemberApart(self.url, name, PASSWORD)


def documented(language: str, service: Service, folder: Path, https: int, http: int) -> str:
    """The how-to's block with this test's names, ports and files."""
    block = re.search(rf"^```{language}\n(.*?)^```$", HOWTO.read_text(), re.MULTILINE | re.DOTALL)
    assert block
    text = (
        block[1].replace("notebooks.lab.example", HOST).replace("127.0.0.1:8000", service.url.removeprefix("http://"))
    )
    return text.replace("/etc/mutirao/fullchain.pem", str(folder / "cert.pem")).replace(
        "/etc/mutirao/key.pem", str(folder / "key.pem")
    )


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path, int, int]]:
    """A service that says a proxy is in front of it; where the proxy will listen."""
    folder = tmp_path_factory.mktemp("front")
    certificates.make(folder, HOST, f"*.{HOST}")
    https, http = free_port(), free_port()
    extra = "[tls]\nbehind_proxy = true\n"
    service = f'subdomain_host = "https://{HOST}:{https}"\n'
    with running("10.153.0.0/16", extra, service=service) as started:
        yield started, folder, https, http


@contextlib.contextmanager
def process(command: list[str], log: Path, port: int) -> Iterator[None]:
    """A program until the block ends; it must listen."""
    with log.open("wb") as output:
        running_one = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                if ask(f"https://{HOST}:{port}/hub/health").status == 200:
                    break
            assert running_one.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        running_one.terminate()
        running_one.wait(30)


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def front(request: pytest.FixtureRequest, behind: tuple[Service, Path, int, int]) -> Iterator[Front]:
    service, folder, https, http = behind
    kind = request.param
    program = shutil.which(kind) or shutil.which(kind, path="/usr/sbin")
    if program is None:
        pytest.skip(f"{kind} is missing: apt-get install {kind}")
    text = documented(kind, service, folder, https, http)
    place = folder / kind
    place.mkdir(exist_ok=True)
    config = place / "config"
    if kind == "caddy":
        storage = f"storage file_system {place}"
        config.write_text(f"{{\nadmin off\nhttp_port {http}\nhttps_port {https}\n{storage}\n}}\n{text}")
        command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    else:
        text = text.replace("listen 443", f"listen 127.0.0.1:{https}").replace("listen 80", f"listen 127.0.0.1:{http}")
        temps = "".join(
            f"{name}_temp_path {place}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off;\nuser root;\npid {place}/pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temps}{text}\n}}\n"
        )
        command = [program, "-c", str(config), "-p", str(place)]
    with process(command, place / "log", https):
        yield Front(service, f"https://{HOST}:{https}", http)


async def test_a_day_through_the_front(front: Front) -> None:
    """Login, start, cells both ways, a refused cell, its case on the pages' own host, stop."""
    async with front.member("ana") as ana:
        await ana.start()
        async with ana.kernel() as kernel:
            assert (await kernel.run("6 * 7")).text == "42"
            ran = await kernel.run(MINER)
            assert ran.refused
            html = ran.contents("display_data")[0]["data"]["text/html"]
            found = re.search(r'href="([^"]*/case/M-\d{4}-\d{6})"', html)
            assert found
            assert found[1].startswith(str(ana.pages))
        async with ana.http.get(found[1]) as case:
            assert case.status == 200
            assert str(case.url) == found[1]
        for cookie in ana.http.cookie_jar:
            assert cookie["secure"] or cookie["path"] == "/user/ana/", cookie
        await ana.stop()


async def test_great_bodies_and_messages_pass(front: Front) -> None:
    async with front.member("bia") as bia:
        await bia.start({"size": "medium"})
        body = b'{"type": "file", "format": "text", "content": "' + b"x" * GREAT_BYTES + b'"}'
        status, model = await bia.request("PUT", "api/contents/great.txt", data=io.BytesIO(body))
        assert status in (200, 201), model
        assert model["size"] == GREAT_BYTES
        del body
        async with bia.http.get(bia.server / "files/great.txt") as answer:
            assert answer.status == 200
            size = 0
            async for chunk in answer.content.iter_any():
                size += len(chunk)
        assert size == GREAT_BYTES
        async with bia.kernel() as kernel:
            ran = await kernel.run("from IPython.display import display; display({'text/plain': 'y' * 90_000_000}, raw=True)", timeout_s=120)  # fmt: skip
            assert len(ran.text) == 90_000_000
        await bia.stop()


async def test_paths_come_to_the_gate_as_they_were_sent(front: Front) -> None:
    """A front that tidied paths would hide from the gate what the server behind it reads."""
    async with front.member("caio") as caio:
        await caio.start()
        number = await caio.new_kernel()
        base = f"{caio.server}api/kernels/{number}"
        for path in ("//channels", "/%63hannels", "/./channels", "/x%2f..%2fchannels", "/channels%00"):
            answer = await asyncio.to_thread(ask, f"{base}{path}")
            assert answer.status in (302, 400, 403, 404), (path, answer.status)
        await caio.stop()


async def test_who_asks_is_what_the_front_saw_and_not_what_the_client_claims(front: Front) -> None:
    page = await asyncio.to_thread(ask, f"{front.url}/hub/login")
    key = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
    assert key
    cookie = "; ".join(value.partition(";")[0] for value in page.headers["set-cookie"])
    headers = {
        "Cookie": cookie,
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-For": "198.51.100.77",
        "X-Real-IP": "198.51.100.78",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.test",
    }
    body = f"username=dora&password={PASSWORD.replace(' ', '+')}&_xsrf={key[1]}"
    answer = await asyncio.to_thread(ask, f"{front.url}/hub/login", method="POST", headers=headers, body=body)
    assert answer.status == 302
    assert "evil" not in str(answer.headers)
    assert "Secure" in answer.header("set-cookie")
    log = (front.service.data / "logs" / "hub.log").read_text()
    assert "198.51.100.7" not in log


async def test_http_leads_to_https(front: Front) -> None:
    answer = await asyncio.to_thread(ask, f"http://{HOST}/hub/login", port=front.http_port)
    assert answer.status in (301, 308)
    assert answer.header("location").startswith(f"https://{HOST}")


@pytest.mark.campaign
async def test_a_long_silence_ends_nothing(front: Front) -> None:
    """Longer than the minute after which an unconfigured nginx gives up."""
    async with front.member("eva") as eva:
        await eva.start()
        async with eva.kernel() as kernel:
            ran = await kernel.run("import time; time.sleep(100); print('still here')", timeout_s=150)
            assert ran.text.strip() == "still here"
        await eva.stop()
