"""Room for large messages: bounded, fair, and nobody keeps it by standing still."""

import random
from dataclasses import dataclass, field

import pytest

from mutirao.gate.hold import LARGE_BYTES, Cargo, Hold
from mutirao.gate.meter import Meter

MB = 1_000_000


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Connection(Cargo):
    def __init__(self, hold: Hold, member: str) -> None:
        self.paused = False
        super().__init__(hold, member, self._pause, self._resume)

    def _pause(self) -> None:
        self.paused = True

    def _resume(self) -> None:
        self.paused = False


@pytest.fixture
def hold() -> Hold:
    return Hold(200 * MB, patience_s=30, clock=Clock())


def test_whoever_finds_no_room_waits_and_goes_on_when_there_is_some(hold: Hold) -> None:
    first, second, third = (Connection(hold, name) for name in "abc")
    for one in (first, second, third):
        one.begins(100 * MB)
    assert (first.paused, second.paused, third.paused) == (False, False, True)
    assert hold.used_bytes == 200 * MB
    first.landed()
    assert not third.paused
    third.landed()
    second.close()
    assert (hold.used_bytes, hold.waiting) == (0, [])


def test_one_member_gets_half_of_the_room_and_others_overtake(hold: Hold) -> None:
    mine = [Connection(hold, "ana") for _ in range(5)]
    for one in mine:
        one.begins(90 * MB)
    assert [one.paused for one in mine] == [False, True, True, True, True]
    other = Connection(hold, "bia")
    other.begins(90 * MB)
    assert not other.paused


def test_small_ones_do_not_overtake_a_large_one_for_ever(hold: Hold) -> None:
    stands = Connection(hold, "a")
    stands.begins(150 * MB)
    large, small = Connection(hold, "b"), Connection(hold, "c")
    large.begins(100 * MB)
    small.begins(20 * MB)
    assert (large.paused, small.paused) == (True, True)
    stands.landed()
    assert (large.paused, small.paused) == (False, False)


def test_the_next_large_message_of_a_connection_waits_for_the_one_before(hold: Hold) -> None:
    one = Connection(hold, "ana")
    one.begins(2 * MB)
    one.begins(3 * MB)
    assert one.paused
    one.landed()
    assert (one.paused, hold.used_bytes) == (False, 3 * MB)
    one.landed()
    assert hold.used_bytes == 0


def test_one_that_stands_still_while_others_wait_is_known(hold: Hold) -> None:
    clock = hold._clock
    still, moving, waits = (Connection(hold, name) for name in "abc")
    still.begins(100 * MB)
    moving.begins(100 * MB)
    clock.now = 31  # type: ignore[attr-defined]
    moving.moved(50 * MB)
    assert not still.stalls, "nobody waits for it"
    waits.begins(100 * MB)
    assert (still.stalls, moving.stalls, waits.stalls) == (True, False, False)


def test_what_is_taken_is_always_given_back() -> None:
    dice = random.Random(1)
    hold = Hold(50 * MB, clock=Clock())
    connections = [Connection(hold, f"m{dice.randrange(4)}") for _ in range(30)]
    for _ in range(20_000):
        one = dice.choice(connections)
        match dice.choices("blc", [5, 4, 1])[0]:
            case "b":
                one.begins(dice.randrange(LARGE_BYTES, 25 * MB))
            case "l":
                one.landed()
            case _:
                one.close()
        if one._closed:
            connections[connections.index(one)] = Connection(hold, one.member)
        assert 0 <= hold.used_bytes <= 50 * MB
        assert not hold.waiting or hold.used_bytes, "somebody waits for nobody"
        assert hold.used_bytes == sum(other.held for other in connections if other.inside)
    for one in connections:
        one.close()
    assert (hold.used_bytes, hold.waiting, dict(hold._used_by)) == (0, [], {})


@dataclass
class Parser:
    """Takes what the meter hands on."""

    got: bytearray = field(default_factory=bytearray)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.got += data
        return False, b""

    def feed_eof(self) -> None:
        self.got += b"EOF"


def header(opcode: int, length: int, fin: bool = True, mask: bool = False) -> bytes:
    first, bit = (0x80 if fin else 0) | opcode, 0x80 if mask else 0
    if length < 126:
        head = bytes([first, bit | length])
    elif length < 1 << 16:
        head = bytes([first, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + length.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if mask else b"")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 4096, 1 << 30])
@pytest.mark.parametrize("mask", [False, True])
def test_the_meter_knows_a_large_message_by_its_header_however_the_bytes_come(
    step: int, mask: bool, hold: Hold
) -> None:
    parser = Parser()
    meter = Meter(parser)
    one = Connection(hold, "ana")
    meter.join(one, 100 * MB)
    small = (
        header(1, 5, mask=mask) + b"small" + header(9, 4, mask=mask) + b"ping" + header(2, 300, mask=mask) + b"m" * 300
    )
    stream = small * 3 + header(2, 3 * MB, mask=mask)
    for start in range(0, len(stream), step):
        assert hold.used_bytes == 0
        meter.feed_data(stream[start : start + step])
    assert (hold.used_bytes, bytes(parser.got)) == (3 * MB, stream)


def test_fragments_ask_for_the_most_there_may_be_once(hold: Hold) -> None:
    meter, one = Meter(Parser()), Connection(hold, "ana")
    meter.join(one, 80 * MB)
    meter.feed_data(header(1, 600_000, fin=False) + b"a" * 600_000)
    assert hold.used_bytes == 0
    meter.feed_data(header(9, 1) + b"p" + header(0, 600_000, fin=False))
    assert hold.used_bytes == 80 * MB
    meter.feed_data(b"a" * 600_000 + header(0, 600_000) + b"a" * 600_000 + header(1, 3) + b"abc")
    assert (hold.used_bytes, one.paused) == (80 * MB, False)


def test_what_came_before_the_meter_had_joined_counts(hold: Hold) -> None:
    meter, one = Meter(Parser()), Connection(hold, "ana")
    meter.feed_data(header(1, 2 * MB))
    meter.join(one, 80 * MB)
    assert hold.used_bytes == 2 * MB
