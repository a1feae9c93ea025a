"""Token buckets, and who it is that asks."""

import pytest

from mutirao import bucket
from mutirao.bucket import Buckets, client_address


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_so_many_and_then_fills_one_by_one() -> None:
    clock = Clock()
    buckets = Buckets(3, 10, clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == 10
    clock.now += 9
    assert buckets.take("a") == 1
    clock.now += 1
    assert buckets.take("a") == 0
    assert buckets.take("a") == 10


def test_asking_how_long_takes_nothing() -> None:
    buckets = Buckets(1, 10, Clock())
    assert [buckets.wait_s("a") for _ in range(5)] == [0] * 5
    assert buckets.take("a") == 0
    assert buckets.wait_s("a") == 10


def test_one_keys_haste_is_not_anothers_wait() -> None:
    buckets = Buckets(1, 10, Clock())
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    clock = Clock()
    buckets = Buckets(2, 10, clock)
    buckets.take("a")
    clock.now += 1_000_000
    assert [buckets.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "MOST_KEYS", 10)
    buckets = Buckets(1, 10, Clock())
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets._full_at) == 10
    assert buckets.take("999") > 0


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        ("", (), "127.0.0.1"),
        ("203.0.113.7", (), "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", (), "203.0.113.7"),  # the left one is the client's own claim
        ("198.51.100.1,203.0.113.7,10.0.0.1", ("10.0.0.1",), "203.0.113.7"),
        ("10.0.0.1", ("10.0.0.1",), "10.0.0.1"),
        ("198.51.100.1, 10.0.0.1", (), "10.0.0.1"),
        ("::ffff:203.0.113.7", (), "203.0.113.7"),
        (",", (), "127.0.0.1"),
        ("203.0.113.7,", (), "127.0.0.1"),
    ],
)
def test_an_address_is_what_our_own_proxy_saw(forwarded: str, trusted: tuple[str, ...], expected: str) -> None:
    assert client_address("127.0.0.1", forwarded, trusted) == expected
