"""Observation -> case -> decision -> notice."""
