"""Shorten the ids of dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


SHORTEST_ID = 4


def shorten_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return unique beginnings of ids, equally long and at least four characters."""
    known = set(ids)
    length = SHORTEST_ID
    while len({each[:length] for each in known}) < len(known):
        length += 1
    return {each: each[:length] for each in known}


def is_id_beginning(text: str, found: str) -> bool:
    """Return whether a text is the beginning of an id, with at least four characters; case is ignored."""
    beginning = text.strip().lower()
    return len(beginning) >= SHORTEST_ID and found.startswith(beginning)
