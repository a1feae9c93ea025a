"""Literals fold to what they come to; what isn't certain stays unknown."""

import ast

import pytest

from mutirao.detect.source.fold import LONGEST, Folder


def _fold(code: str) -> object:
    return Folder().fold(ast.parse(code, mode="eval").body)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("'a' + 'b'", "ab"),
        ("'a' * 3", "aaa"),
        ("f'a{\"b\"}c'", "abc"),
        ("'a%s' % 'b'", "ab"),
        ("'%s-%s' % ('a', 'b')", "a-b"),
        ("'{}{}'.format('a', 'b')", "ab"),
        ("''.join(['a', 'b'])", "ab"),
        ("''.join(chr(c) for c in [97, 98])", "ab"),
        ("'cba'[::-1]", "abc"),
        ("'xabx'[1:-1]", "ab"),
        ("''.join(reversed('cba'))", "abc"),
        ("'a-b'.replace('-', '')", "ab"),
        ("'AB'.lower()", "ab"),
        ("base64.b64decode('YWI=').decode()", "ab"),
        ("base64.b64decode('YWI').decode()", "ab"),
        ("b64decode(b64decode('WVdJPQ==')).decode()", "ab"),
        ("base64.b32decode('MFRA====').decode()", "ab"),
        ("bytes.fromhex('6162').decode()", "ab"),
        ("binascii.unhexlify('6162').decode('utf-8')", "ab"),
        ("codecs.decode('no', 'rot13')", "ab"),
        ("codecs.decode('no', 'rot_13')", "ab"),
        ("bytes([97, 98]).decode()", "ab"),
        ("'a b'.split()", ["a", "b"]),
        ("['a'] + ['b']", ["a", "b"]),
        ("'\\x61\\x62'", "ab"),
    ],
)
def test_a_literal_expression_comes_to_its_value(code: str, value: object) -> None:
    assert _fold(code) == value


@pytest.mark.parametrize(
    "code",
    [
        "x",
        "open('f').read()",
        "'a' + x",
        "'a'[9]",
        "bytes.fromhex('zz')",
        "'%d' % 'a'",
        "'{}'.format()",
        "chr(99999999999)",
        "'a' * 10**9",
        "'%999999999s' % 'a'",
        "'{:>999999999}'.format('a')",
        "codecs.decode('x', 'unicode_escape')",
        "lambda: 1",
        "[x for x in y]",
    ],
)
def test_what_is_not_certain_or_too_large_is_unknown(code: str) -> None:
    assert _fold(code) is None


def test_a_bomb_stays_small() -> None:
    """zlib grows a thousandfold; the result is cut."""
    import base64
    import zlib

    packed = base64.b64encode(zlib.compress(b"a" * 50_000_000)).decode()
    value = _fold(f"zlib.decompress(base64.b64decode('{packed}'))")
    assert value is None or len(value) <= LONGEST  # type: ignore[arg-type]


def test_unknown_parts_are_kept_as_their_source() -> None:
    assert Folder().text(ast.parse("f'a {b} c' + d.e", mode="eval").body) == "a {b} c{d.e}"
