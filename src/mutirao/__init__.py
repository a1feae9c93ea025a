"""Mutirão: a self-hosted notebook service that says what it does and why."""

__version__ = "0.1.0"
