"""The packet filter on lesser kernels, and the resolvers that runtimes are given."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import firewall
from mutirao.sandbox.sandboxes import Sandboxes
from tests.sandbox.house import SUBNET, need_root, spec


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["nameserver 192.0.2.1\nnameserver 192.0.2.2\n"], ("192.0.2.1", "192.0.2.2")),
        (["# nameserver 192.0.2.9\nsearch example.org\noptions edns0\nnameserver\t192.0.2.1 # near"], ("192.0.2.1",)),
        (["nameserver 127.0.0.53\n", "nameserver 192.0.2.7\n"], ("192.0.2.7",)),
        (["nameserver 192.0.2.1\n", "nameserver 192.0.2.7\n"], ("192.0.2.1",)),
        (["nameserver fd00::1\nnameserver 192.0.2.1\n"], ("192.0.2.1",)),
        (["nameserver 192.0.2.1\n" * 3 + "nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n"],
         ("192.0.2.1", "192.0.2.2", "192.0.2.3")),
        (["nameserver\nnameserver dns.example\nnameserver 1.2.3\n"], ()),
        (["nameserver 127.0.0.1\n", None], ()),
        ([None, None], ()),
        (["\udcff\n"], ()),
    ],
)  # fmt: skip
def test_resolvers_are_those_that_can_be_reached(
    tmp_path: Path, texts: list[str | None], found: tuple[str, ...]
) -> None:
    places = [tmp_path / str(number) for number in range(len(texts))]
    for place, text in zip(places, texts, strict=True):
        if text is not None:
            place.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert firewall.host_resolvers(places) == found


@pytest.mark.root
@pytest.mark.parametrize(
    ("missing", "nat", "counts"),
    [
        ((), True, True),
        (("ct count",), True, False),
        (("masquerade",), False, True),
        (("masquerade", "ct count"), False, False),
    ],
)
async def test_a_lesser_kernel_gets_all_the_walls_it_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], nat: bool, counts: bool
) -> None:
    need_root()
    real: Callable[..., str] = firewall.nft

    def lesser(rules: str, *words: str) -> str:
        if any(word in rules for word in missing):
            raise SandboxError("Operation not supported")
        return real(rules, *words)

    monkeypatch.setattr(firewall, "nft", lesser)
    sandboxes = Sandboxes(tmp_path, subnet=SUBNET)
    try:
        await sandboxes.prepare()
        assert sandboxes.nat is nat
        rules = real("", "list", "table", "inet", f"mutirao_{sandboxes.instance}")
        assert ("masquerade" in rules) is nat
        assert ("ct count" in rules) is counts
        assert "ip daddr @refused jump refuse" in rules
        await sandboxes.start(spec("ada"))
    finally:
        await sandboxes.teardown(0)


@pytest.mark.root
async def test_without_nftables_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_root()
    real: Callable[..., str] = firewall.nft

    def none(rules: str, *words: str) -> str:
        if "hook forward" in rules:
            raise SandboxError("nftables refuses our rules (Operation not supported)")
        return real(rules, *words)

    monkeypatch.setattr(firewall, "nft", none)
    sandboxes = Sandboxes(tmp_path, subnet=SUBNET)
    try:
        with pytest.raises(SandboxError, match="nftables refuses our rules"):
            await sandboxes.prepare()
    finally:
        await sandboxes.teardown(0)
