"""What the gate uses of aiohttp although it is not promised."""

import os

import aiohttp
import pytest
from aiohttp._websocket.helpers import websocket_mask

from mutirao.gate.inside import USED
from mutirao.gate.pieces import mask


@pytest.mark.parametrize(("owner", "name"), USED, ids=lambda part: getattr(part, "__name__", part))
def test_aiohttp_still_has_it(owner, name):
    there = hasattr(owner, name) or name in owner.__init__.__code__.co_names
    assert there, f"aiohttp {aiohttp.__version__} has no {owner.__name__}.{name} any more: see mutirao/gate/inside.py"


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000, 65_537])
def test_a_piece_is_masked_as_aiohttp_masks_it(size):
    data, key = os.urandom(size), b"\x00\xff\x80\x01"
    expected = bytearray(data)
    websocket_mask(key, expected)
    assert mask(memoryview(data), key) == expected
