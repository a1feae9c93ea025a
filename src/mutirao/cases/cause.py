"""The cause of a finding: the same for everybody whom one thing hits, whatever their paths, wallets or numbers. Pure.

A poisoned package gives all who install it one cause, and so does one command that a class copies from a slide.
"""

import hashlib
import re

from mutirao.detect.finding import Finding

_LONG = re.compile(r"\b(?=\w*\d)\w{24,}\b")  # wallets, hashes, tokens
_HEX = re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{12,}\b")
_PATH = re.compile(r"(?:[\w.~-]*/)+([\w.-]+)")
_NUMBER = re.compile(r"\d+")
_QUOTES = re.compile(r"[\"'`]")


def normalise(evidence: str) -> str:
    """The evidence without what differs from person to person: case, quotes, folders, long tokens, numbers, spacing."""
    text = _QUOTES.sub("", evidence.lower())
    text = _HEX.sub("#", _LONG.sub("#", text))
    text = _PATH.sub(r"\1", text)
    return " ".join(_NUMBER.sub("0", text).split())


def cause(category: str, rule: str, evidence: str) -> str:
    """The fingerprint of a cause: 32 hexadecimal digits over category, rule and normalised evidence."""
    return hashlib.sha256(f"{category}|{rule}|{normalise(evidence)}".encode("utf-8", "replace")).hexdigest()[:32]


def cause_of(finding: Finding) -> str:
    """The cause of a finding."""
    return cause(finding.category, finding.rule, finding.excerpt)
