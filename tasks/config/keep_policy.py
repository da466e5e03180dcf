"""The setting `keep`: how many dumps `db.prune` keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class KeepPolicy:
    """How many dumps of a database are kept: the last ones, and the best one of each of the last periods.

    :ivar daily: How many days; `weekly`, `monthly` and `yearly` count weeks, months and years.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


_NAMES = [each.name for each in fields(KeepPolicy)]
_RULE = re.compile(r"([a-z]+)=(\d{1,6})", re.ASCII)


def parse_keep_policy(text: str) -> KeepPolicy | None:
    """Read a policy such as `last=3 daily=7`; None for an empty text, which keeps every dump.

    :raises ValueError: It is no policy; says what is wrong, as the end of a sentence.
    """
    counts: dict[str, int] = {}
    for word in text.replace(",", " ").split():
        found = _RULE.fullmatch(word)
        if found is None or found[1] not in _NAMES:
            raise ValueError(f"must be counts of {', '.join(_NAMES)}, as in 'last=3 daily=7'")
        if found[1] in counts:
            raise ValueError(f"names {found[1]} twice")
        counts[found[1]] = int(found[2])
    if counts and not any(counts.values()):
        raise ValueError("must have a count above 0")
    return KeepPolicy(**counts) if counts else None
