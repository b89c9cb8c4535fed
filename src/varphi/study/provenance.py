"""What made a result: versions, machine, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import secrets
import shlex
import socket
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any


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
    """The command line of this process, as one would type it, without passwords."""
    words = getattr(sys, "orig_argv", sys.argv)
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    if program == "varphi":
        words = ["varphi", *sys.argv[1:]]
    return shlex.join([Path(words[0]).name, *map(without_password, words[1:])]) if words else ""


def without_password(text: str) -> str:
    """`text` with the passwords of all URLs in it replaced by ***."""
    text = re.sub(r"(://[^:/@\s]*):[^\s]*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)


def now() -> str:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@cache
def host() -> str:
    """This machine, as far as process numbers are its own: containers of one machine have different ones."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{namespace}"


# Tells this process from an earlier one with the same number, as every container's first process has.
_TOKEN = secrets.token_hex(4)


def process() -> list[Any]:
    """This process, told from all others on all machines: host, process number, token."""
    return [host(), os.getpid(), _TOKEN]


def is_gone(host_pid_token: list[Any]) -> bool:
    """Whether a process is known to have ended: one of this machine, of which there is no trace."""
    where, pid, _ = host_pid_token
    if where != host() or os.name != "posix":
        return False
    if pid == os.getpid():
        return host_pid_token != process()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to take note of it."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return False
    # "number (name) state ...", where the name may hold parentheses of its own.
    return told.rpartition(")")[2].split()[:1] == ["Z"]
