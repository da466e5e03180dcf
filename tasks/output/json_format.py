"""The form of JSON documents: version, times and errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..formatting import parse_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..errors import TaskError


Document = dict[str, Any]
VERSION = 1


def document_text(document: Mapping[str, Any]) -> str:
    """Return the result of a task as JSON, with the version of the format."""
    return json.dumps({"version": VERSION, **document}, indent=1, default=_convert)


def error_line(error: TaskError) -> str:
    """Return an error as JSON on one line."""
    described = {
        "code": error.exit_code,
        "kind": error.kind,
        "message": str(error),
        "state": error.effect,
        "fix": error.fix or None,
    }
    return json.dumps({"version": VERSION, "error": described})


def _convert(value: object) -> object:
    """Return a time or a path as text."""
    return format_document_time(value) if isinstance(value, datetime) else str(value)


def format_document_time(moment: datetime | str | None) -> str | None:
    """Return a time in ISO 8601, UTC, with milliseconds; None if there is none, or Python can't represent it."""
    found = parse_instant(moment) if isinstance(moment, str) else moment
    if found is None:
        return None
    return found.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
