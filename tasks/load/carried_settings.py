"""Hand the settings that a dump has made in the first session on to the other sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dumpformat.tokens import decode_name
from .row_counts import quote_literal

if TYPE_CHECKING:
    from ..dumpformat.statements import StatementKind
    from ..postgres.protocol import StatementStream
    from .workers import SettingValues


class CarriedSettings:
    """The settings that the dump has changed so far, with their present values.

    The values are read from the session: a statement may have been left out, or may have set a default.

    :param stream: The session that runs the dump's SET statements.
    """

    def __init__(self, stream: StatementStream) -> None:
        self._stream = stream
        # Set before the dump's first statement.
        self._names = {"search_path"}
        self._values: SettingValues | None = None

    def note(self, kind: StatementKind) -> None:
        """Remember the settings that a statement has changed."""
        if kind.settings:
            self._names.update(each.name for each in kind.settings if each.name not in {"", "all"})
            self._values = None

    def values(self) -> SettingValues:
        """Return the settings with their present values; unknown ones are left out."""
        if self._values is None:
            parts = [
                b"SELECT %s, pg_catalog.current_setting(%s, true)" % (quote_literal(name), quote_literal(name))
                for name in sorted(self._names)
            ]
            rows = self._stream.ask(b" UNION ALL ".join(parts))
            self._values = tuple(
                (decode_name(name or b""), decode_name(value)) for name, value in rows if value is not None
            )
        return self._values
