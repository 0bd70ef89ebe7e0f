"""The files of a run folder that several rooms know; docs/run-folder.md has all of them."""

from __future__ import annotations

CONFIG = "config.json"
"""The resolved configuration."""

SUMMARY = "summary.json"
"""What became of the run."""

MATCHES = "matches.jsonl"
"""The matches of an evaluation, one a line."""

LOCK = "run.lock"
"""Held by the process that writes to the folder; it names that process."""
