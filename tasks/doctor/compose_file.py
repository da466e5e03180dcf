"""A Compose file of the project, as far as it says which port of this machine leads to a service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..system.processes import read_regular

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
# `5433:5432`, with an address before it or a protocol behind it; variables are not read.
_SHORT = re.compile(
    r"""-\s*["']?(?:(?:[\d.]+|\[[^\]]*\]):)?(?P<published>\d+):(?P<target>\d+)(?:/tcp)?["']?\s*(?:\#.*)?"""
)
_LONG = re.compile(r"""(?:-\s*)?(?P<key>published|target):\s*["']?(?P<port>\d+)["']?\s*(?:\#.*)?""")


def find_compose_service(root: Path, name: str, port: str) -> tuple[str, str] | None:
    """Find a service by its name, which is a host only inside of Compose's own network.

    :param root: The folder of the project.
    :param port: The service's own port.
    :return: The Compose file's name, and the port of this machine that leads to the service's own; empty where that is
        not certain.
    """
    for file in FILES:
        try:
            text = read_regular(root / file).decode("utf-8", "replace")
        except OSError:
            continue
        services = dict(_blocks(dict(_blocks(text.splitlines())).get("services", [])))
        if name in services:
            ports = dict(_blocks(services[name])).get("ports", [])
            return file, _published(ports, port)
    return None


def _blocks(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Split lines into the keys of the least indented ones, each with the lines below it."""
    known = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    indent = min((_indent(line) for line in known), default=0)
    found: list[tuple[str, list[str]]] = []
    for line in known:
        key, colon, _ = line.strip().partition(":")
        # Items of a list may be as little indented as its key.
        if _indent(line) == indent and colon and not key.startswith("-"):
            found.append((key.strip("\"' "), []))
        elif found:
            found[-1][1].append(line)
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _published(lines: list[str], port: str) -> str:
    last: dict[str, str] = {}
    for line in lines:
        stripped = line.strip()
        if (short := _SHORT.fullmatch(stripped)) and short["target"] == port:
            return short["published"]
        if stripped.startswith("-"):
            last = {}
        if long := _LONG.fullmatch(stripped):
            last[long["key"]] = long["port"]
            if last.get("target") == port and "published" in last:
                return last["published"]
    return ""
