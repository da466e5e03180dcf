"""Short ids: beginnings of a manifest's id that people type."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


SHORTEST_ID = 4


def shorten_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return beginnings of ids that are equally long, of four digits or more, and tell all of them apart."""
    known = set(ids)
    length = SHORTEST_ID
    while len({each[:length] for each in known}) < len(known):
        length += 1
    return {each: each[:length] for each in known}


def is_id_beginning(wanted: str, found: str) -> bool:
    """Return whether a text that a person typed is the beginning of an id: four digits or more, capitals or not."""
    beginning = wanted.strip().lower()
    return len(beginning) >= SHORTEST_ID and found.startswith(beginning)
