"""Signed heads of the audit: a line of JSON says which entry was the last at a time, and a key vouches for it.

The file is the operator's choice, best on another machine: whoever rewrites or shortens the chain can't take back what
was signed there. Signature: Ed25519 over `mutirao audit head 1|number|hash|signed_at`.
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mutirao.errors import StoreError

PREFIX = "ed25519:"


@dataclass(frozen=True, slots=True)
class Head:
    """Entry `number` with this hash was the last one at `signed_at` (ISO 8601)."""

    number: int
    hash: str
    signed_at: str
    signature: str = ""

    @property
    def told(self) -> bytes:
        """What is signed."""
        return f"mutirao audit head 1|{self.number}|{self.hash}|{self.signed_at}".encode()

    def line(self) -> str:
        """The head as it stands in the file."""
        return json.dumps(asdict(self)) + "\n"


class Key:
    """The key that signs heads: a file that only its owner reads, made where there is none."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def open(cls, path: Path) -> "Key":
        """The key in the file; StoreError where that can't be read or is no key."""
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise StoreError(f"The audit's key {path} can't be read: {error}. Restore it from a backup.") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise StoreError(f"{path} holds no Ed25519 key. Restore it from a backup.")
        return cls(private)

    @classmethod
    def make(cls, path: Path) -> "Key":
        """The key in the file, made now where there is none."""
        if path.exists():
            return cls.open(path)
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
        return cls(private)

    @property
    def public(self) -> str:
        """The public key as text, for an operator's notes and for `audit verify --key`."""
        raw = self._private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PREFIX + base64.b64encode(raw).decode()

    def sign(self, number: int, hash_: str, at: datetime) -> Head:
        """The signed head."""
        head = Head(number, hash_, at.isoformat())
        return Head(number, hash_, head.signed_at, base64.b64encode(self._private.sign(head.told)).decode())


def public_key(text: str) -> Ed25519PublicKey:
    """The key from its text; StoreError where it is none."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except ValueError as error:
        raise StoreError(f"{text[:80]!r} is no public key: it looks like {PREFIX}… (`mutirao audit key`).") from error


def signed_by(head: Head, key: Ed25519PublicKey) -> bool:
    """True where the key vouches for this head."""
    try:
        key.verify(base64.b64decode(head.signature), head.told)
    except (InvalidSignature, ValueError):
        return False
    return True


def read(path: Path) -> Iterator[Head]:
    """The heads in a file, in its order; a torn line (the machine failed) is passed over, other damage is told."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"The heads in {path} can't be read: {error.strerror}.") from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"}"):
            continue
        try:
            values = json.loads(line)
            head = Head(int(values["number"]), str(values["hash"]), str(values["signed_at"]), str(values["signature"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} line {number} is no signed head: somebody changed the file.") from error
        yield head


def trusted(heads: Iterable[Head], key: Ed25519PublicKey) -> Mapping[int, str]:
    """The signed hashes by number; StoreError where a signature is wrong, or two heads contradict each other."""
    found: dict[int, str] = {}
    for head in heads:
        if not signed_by(head, key):
            raise StoreError(
                f"The head at entry {head.number}, signed {head.signed_at}, has a wrong signature: "
                "the file was changed, or another key signed it."
            )
        if found.setdefault(head.number, head.hash) != head.hash:
            raise StoreError(f"Two heads at entry {head.number} differ: the chain was written anew in between.")
    return found


def append(path: Path, head: Head) -> None:
    """Add a head to the file and wait until it is on the disk; OSError where that fails."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (("\n" if torn else "") + head.line()).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
