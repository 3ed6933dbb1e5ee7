"""Where a bundle comes from: framework versions, the source tree's commit, the time."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata


def collect(
    packages: tuple[str, ...],
    stablehlo_version: str | None,
    reproducible: bool,
    extra: Mapping[str, object],
) -> dict[str, object]:
    """The manifest's ``provenance``: facts gathered here, then ``extra``, which may replace any of them.

    ``reproducible`` leaves out the time and the commit, so that the same model gives the same bytes.
    """
    facts: dict[str, object] = {
        "exporter": "reactant_export",
        "python": platform.python_version(),
    }
    if stablehlo_version is not None:
        facts["stablehlo"] = stablehlo_version
    for package in packages:
        facts[package] = metadata.version(package)
    if not reproducible:
        facts["created"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        facts |= _git_state()
    return {**facts, **extra}


def _git_state() -> dict[str, object]:
    """Commit of the working directory and whether it had changes; nothing outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"git_commit": commit, "git_dirty": _git("status", "--porcelain") != ""}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True, timeout=30, env=environment
    )
    return done.stdout.strip()
