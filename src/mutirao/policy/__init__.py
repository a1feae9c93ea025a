"""Versions of the policy, their diffs, and the published page's data."""
