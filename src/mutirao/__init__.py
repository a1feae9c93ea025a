"""Mutirão: a self-hosted notebook service that says what it does and why.

`mutirao.guard(c)` adds gate and pages to a JupyterHub that stands already.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["guard"]


def __getattr__(name: str) -> Any:
    """Import `guard` only when it is asked for: the gate must not load the hub."""
    if name == "guard":
        from mutirao.hub.guard import guard

        return guard
    raise AttributeError(f"module 'mutirao' has no attribute {name!r}")
