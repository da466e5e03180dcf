"""The setting `keep`: how many dumps `db.prune` keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class KeepPolicy:
    """The number of dumps of a database to keep: the last ones, and the best one of each of the last periods.

    :ivar daily: The number of days; `weekly`, `monthly` and `yearly` are numbers of weeks, months and years.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


_NAMES = [each.name for each in fields(KeepPolicy)]
_RULE = re.compile(r"([a-z]+)=(\d{1,6})", re.ASCII)


def parse_keep_policy(text: str) -> KeepPolicy | None:
    """Return the policy in a text such as `last=3 daily=7`; None for an empty text, which keeps every dump.

    :raises ValueError: The text is not a policy; the message is the predicate of a sentence about it.
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
