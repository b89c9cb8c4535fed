"""What made a result: versions, machine, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The exact version of Python and of each distribution; one that is not installed is said to be so."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed as a distribution"
    return found


def machine() -> str:
    """Operating system, processor, number of cores."""
    return f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def command() -> str:
    """The command line of this process, as one would type it."""
    words = getattr(sys, "orig_argv", sys.argv)
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    if program == "varphi":
        return shlex.join(["varphi", *sys.argv[1:]])
    return shlex.join([Path(words[0]).name, *words[1:]]) if words else ""


def now() -> str:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
