"""The nine categories of disallowed work, by their stored keys."""

from enum import StrEnum


class Category(StrEnum):
    """A clause of the policy; the value is stored and appears in URLs."""

    FILE_HOSTING = "file-hosting"
    P2P = "p2p"
    REMOTE_ACCESS = "remote-access"
    PROXY = "proxy"
    MINING = "mining"
    DOS = "dos"
    PASSWORD_CRACKING = "password-cracking"  # noqa: S105 (a category, no password)
    MULTI_ACCOUNT = "multi-account"
    DEEPFAKE = "deepfake"
