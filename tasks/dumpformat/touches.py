"""Find the objects that a dump may change or delete but does not create, as far as its text shows them.

A statement is harmless only in pg_dump's own form, and if it creates a new object or works on objects that this dump
has created by a plain CREATE with a schema. Every other statement is a touch: of a named object if it can change
nothing else, otherwise of anything in the database. Expressions inside definitions (a CHECK, a default, an index, a
materialized view) are not examined, because pg_dump writes them, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .manifest import Touch, TouchKind
from .statements import parse_setval
from .tokens import TokenReader, is_system_schema, split_qualified
from .touch_forms import (
    COPY,
    GLOBAL,
    GRANTED,
    IN_SCHEMA,
    LO_OF_ID,
    LO_WRITE,
    MODIFIERS,
    NAMED,
    NAMELESS,
    OF_EVENT_TRIGGER,
    ON_TABLES,
    OTHER_SETTING,
    RELATIONS,
    SAFE_PATH,
    SET_CONFIG,
    TYPES,
    UTF8,
    actions,
    cast_runs_code,
    casts,
    certain,
    drops_part,
    first_word,
    holds_literals,
    is_known,
    nameless,
    restores_statistics,
    sequence_of_identity,
    skip_parentheses,
    take_kind,
    take_names,
)
from .touch_notes import TouchNotes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lexer import Statement
    from .statements import StatementKind


class Touches(TouchNotes):
    """A reader of a dump's statements that records what they change or delete without creating it."""

    def statement(self, event: Statement, kind: StatementKind) -> None:
        """Record what a statement touches.

        :param kind: The statement's effect, from :func:`statements.classify_statement`.
        """
        text, verb = event.text, kind.verb
        # Text without a backslash means the same with any standard_conforming_strings.
        if not event.standard and b"\\" in text:
            self._anything(first_word(text))
        elif event.copies:
            self._rows(split_qualified(event.copies), "COPY", known=COPY.match(text) is not None)
        elif verb == "INSERT":
            self._rows((kind.schema, kind.name), "INSERT", known=holds_literals(text))
        elif verb != "TRANSACTION" and text != b";":
            words = TokenReader(text)
            first = words.word()
            reader = self._READERS.get(first)
            harmless = not self._all_runs_code or first in {"SET", "RESET"} or OF_EVENT_TRIGGER.match(text)
            if reader is not None and harmless:
                reader(self, words, text)
            else:
                self._anything(first_word(text))
        self.line += text.count(b"\n")

    def _rows(self, table: tuple[str, str], how: str, *, known: bool) -> None:
        own = self._own.get(("RELATION", *table))
        if not known or self._rows_run_code or self._all_runs_code or own is False:
            self._anything(how)
        elif own is None:
            self._named("TABLE", table, how, says=TouchKind.ADDS)

    def _create(self, words: TokenReader, text: bytes) -> None:  # noqa: PLR0912 - a table of cases
        replaces = words.skip("OR") and words.skip("REPLACE")
        while words.skip(*MODIFIERS):
            pass
        kind = take_kind(words)
        how = f"CREATE {'OR REPLACE ' if replaces else ''}{kind}"
        if kind == "INDEX" or kind in ON_TABLES:
            self._create_on_table(words, kind, how)
        elif kind in GLOBAL:
            self._created_globals.add((kind, words.name()))
            self._all_runs_code |= kind == "EVENT TRIGGER"
            if replaces:
                self._anything(how)
        elif kind in NAMELESS:
            self._created_globals.add((kind, nameless(words)))
            self._rows_run_code |= kind == "CAST" and cast_runs_code(text)
        elif kind == "SCHEMA":
            self._create_schema(words, how)
        elif kind == "EXTENSION":
            return
        elif kind not in IN_SCHEMA:
            self._anything(how if kind.replace(" ", "").isalpha() else "CREATE")
        elif replaces:
            found = words.names()
            if not self._is_own(kind, found):
                self._named(kind, found, how, clean=kind == "VIEW")
        else:
            # An object that may exist already does not count as created by the dump.
            conditional = words.skip("IF") and words.skip("NOT") and words.skip("EXISTS")
            found = words.names()
            if not conditional:
                self._make(kind, found, how)
            # CREATE TABLE AS runs a query. A partition or a child changes its parent.
            if kind == "TABLE" and TokenReader(text).seek("AS"):
                self._anything(how)
            elif kind in {"TABLE", "FOREIGN TABLE"} and words.seek("INHERITS", "OF"):
                words.sign(b"(")
                for parent in take_names(words):
                    self._note_child(found, parent)
                    if not (self._is_own("TABLE", parent) or self._is_own("TYPE", parent)):
                        self._anything(how)

    def _create_on_table(self, words: TokenReader, kind: str, how: str) -> None:
        """Read an object of a table. After a trigger or a rule, rows may run functions."""
        words.skip("CONCURRENTLY")
        name = words.name()
        known = words.seek("TO" if kind == "RULE" else "ON")
        found = words.relation()
        if not (known and self._is_own("TABLE", found)):
            self._named("TABLE" if known else "", found, how)
        elif kind == "INDEX":
            self._make(kind, (found[0], name), how)
        self._rows_run_code |= kind in {"TRIGGER", "RULE"}

    def _create_schema(self, words: TokenReader, how: str) -> None:
        if words.skip("IF"):
            words.skip("NOT")
            words.skip("EXISTS")
        if not words.skip("AUTHORIZATION"):
            self._created_globals.add(("SCHEMA", words.name()))
            words.skip("AUTHORIZATION")
        words.name()
        if words.peek()[1] != b";":
            self._anything(how)

    def _drop(self, words: TokenReader, text: bytes) -> None:
        kind = take_kind(words)
        words.skip("CONCURRENTLY")
        if words.skip("IF"):
            words.skip("EXISTS")
        how = f"DROP {kind}"
        if kind in {"SCHEMA", "EXTENSION"}:
            # A restore skips both.
            return
        if kind in ON_TABLES:
            known = words.seek("ON")
            found = words.names()
            self._named("TABLE" if known else "", found, how, clean=not words.seek("CASCADE"))
        elif kind in GLOBAL | NAMELESS:
            globals_ = [name for _, name in take_names(words)] if kind in GLOBAL else [nameless(words)]
            if TokenReader(text).seek("CASCADE"):
                self._anything(f"{how} … CASCADE")
            for name in globals_:
                self._dropped_globals.setdefault((kind, name), self.line)
        elif kind in IN_SCHEMA:
            names = list(take_names(words))
            cascades = words.seek("CASCADE")
            self._dropped.update(names)
            for found in names:
                if kind in RELATIONS and self._own.pop(("RELATION", *found), None) is not None and not cascades:
                    continue
                if cascades and kind not in NAMED:
                    self._anything(f"{how} … CASCADE")
                else:
                    self._named(kind, found, how + " … CASCADE" * cascades, clean=not cascades)
        else:
            self._anything(how if kind.isalpha() else "DROP")

    def _alter(self, words: TokenReader, text: bytes) -> None:
        kind = take_kind(words)
        how = f"ALTER {kind}"
        if kind == "DEFAULT":
            return
        if kind in GLOBAL | NAMELESS | {"SCHEMA"}:
            name = nameless(words) if kind in NAMELESS else words.name()
            owned = words.skip("OWNER", "ADD", "ENABLE", "DISABLE")
            if kind == "SCHEMA" and owned and certain(name, name):
                self._schema(name, how)
            elif not (owned and (kind, name) in self._created_globals):
                self._anything(how)
        elif kind == "LARGE OBJECT":
            self._of_large_object(words.take()[1], how)
        elif kind in IN_SCHEMA:
            if words.skip("IF"):
                words.skip("EXISTS")
            self._alter_named(words, kind, how, text)
        else:
            self._anything(how if kind.isalpha() else "ALTER")

    def _alter_named(self, words: TokenReader, kind: str, how: str, text: bytes) -> None:
        found = words.relation()
        complete = words.peek()[1] not in {b".", b"*"}
        skip_parentheses(words)
        if words.skip("USING"):
            words.name()
        done = actions(words)
        # Only these kinds have several actions, separated by commas.
        done = done if kind in RELATIONS | TYPES else done[:1]
        own = self._is_own(kind, found)
        if any(action[:1] == ["RENAME"] or action[:2] == ["SET", "SCHEMA"] for action in done):
            self._own.clear()
        if not complete or not all(is_known(kind, action, own=own) for action in done):
            self._anything(how)
        elif not own:
            self._named(kind, found, how, clean=all(drops_part(action) for action in done))
        elif done[0][:2] == ["ADD", "CONSTRAINT"]:
            # The constraint's index has the same name.
            words = TokenReader(text)
            words.seek("CONSTRAINT")
            self._make("INDEX", (found[0], words.name()), how)
        elif sequence := sequence_of_identity(text):
            self._make("SEQUENCE", sequence, how)
        if any(action[:1] in (["ATTACH"], ["INHERIT"]) for action in done):
            self._attach(kind, found, text, how)

    def _attach(self, kind: str, found: tuple[str, str], text: bytes, how: str) -> None:
        words = TokenReader(text)
        while words.seek("ATTACH", "INHERIT"):
            attaches = words.skip("PARTITION")
            other = words.names()
            if not self._is_own("TABLE", other):
                self._named("TABLE", other, how)
            if kind != "INDEX":
                self._note_child(*((other, found) if attaches else (found, other)))

    def _schema(self, name: str, how: str) -> None:
        if ("SCHEMA", name) not in self._created_globals:
            touch = Touch(schema=name, how=how, line=self.line, kind=TouchKind.DEFINITION)
            self._remember(touch, creates=("SCHEMA", "", name))

    def _of_large_object(self, number: bytes, how: str) -> None:
        if not (number.isdigit() and int(number) in self._large_objects):
            self._anything(how)

    def _describe(self, words: TokenReader, _: bytes) -> None:
        """Read a COMMENT or a SECURITY LABEL."""
        how = "SECURITY LABEL" if words.skip("LABEL") else "COMMENT"
        words.seek("ON")
        kind = take_kind(words)
        if kind in ON_TABLES:
            words.seek("ON")
            if words.skip("DOMAIN"):
                kind = "DOMAIN"
        self._of_names(kind, words, how)

    def _of_names(self, kind: str, words: TokenReader, how: str) -> None:
        if kind == "LARGE OBJECT":
            self._of_large_object(words.take()[1], how)
            while words.sign(b","):
                self._of_large_object(words.take()[1], how)
        elif kind == "SCHEMA":
            for _, name in take_names(words):
                self._schema(name, how)
        elif kind in GLOBAL | NAMELESS:
            names = [nameless(words)] if kind in NAMELESS else [name for _, name in take_names(words)]
            if not all((kind, name) in self._created_globals for name in names):
                self._anything(how)
        elif kind == "COLUMN" or kind in ON_TABLES:
            found = words.names()
            self._own_or_named("TYPE" if self._is_own("TYPE", found) else "TABLE", found, how)
        elif kind in IN_SCHEMA:
            for found in take_names(words):
                self._own_or_named(kind, found, how)
        elif kind != "EXTENSION":
            self._anything(how)

    def _own_or_named(self, kind: str, found: tuple[str, str], how: str) -> None:
        if not self._is_own(kind, found) and not is_system_schema(found[0]):
            self._named(kind, found, how)

    def _grant(self, words: TokenReader, text: bytes) -> None:
        how = first_word(text)
        if not words.seek("ON") or TokenReader(text).seek("CASCADE"):
            self._anything(how)
            return
        is_kind = words.peek()[0] != "quoted" and words.peek()[1].upper().decode("latin-1") in GRANTED
        self._of_names(take_kind(words) if is_kind else "TABLE", words, how)

    def _select(self, _: TokenReader, text: bytes) -> None:
        if (found := LO_OF_ID.match(text)) is not None:
            done, number = (found[1] or found[3] or found[5]), int(found[2] or found[4] or found[6])
            if done == b"lo_create":
                self._unlinked.pop(number, None)
                self._large_objects.add(number)
            elif done == b"lo_unlink":
                self._unlinked.setdefault(number, self.line)
            elif number not in self._large_objects:
                self._anything("lo_open")
        elif text[:19] == b"SELECT pg_catalog.s" and not casts(text) and (value := parse_setval(text)) is not None:
            if not self._is_own("SEQUENCE", (value.schema, value.name)):
                self._named("SEQUENCE", (value.schema, value.name), "SELECT setval")
        elif (setting := SET_CONFIG.match(text)) is not None and (setting[1] or self._safe_path):
            self._note_path(text)
        elif not LO_WRITE.match(text) and not restores_statistics(text):
            self._anything("SELECT")

    def _set(self, _: TokenReader, text: bytes) -> None:
        self._note_path(text)
        lowered = text.lower()
        if (b"client_encoding" in lowered or b"names" in lowered) and not UTF8.search(text):
            self._utf8 = False

    def _note_path(self, text: bytes) -> None:
        if OTHER_SETTING.match(text) is None:
            self._safe_path = SAFE_PATH.match(text) is not None

    def _refresh(self, words: TokenReader, _: bytes) -> None:
        words.skip("MATERIALIZED")
        words.skip("VIEW")
        words.skip("CONCURRENTLY")
        self._own_or_named("MATERIALIZED VIEW", words.names(), "REFRESH MATERIALIZED VIEW")

    def _truncate(self, words: TokenReader, _: bytes) -> None:
        words.skip("TABLE")
        names = list(take_names(words))
        cascades = words.seek("CASCADE")
        for found in names:
            if cascades or self._rows_run_code:
                self._anything("TRUNCATE … CASCADE" if cascades else "TRUNCATE")
            elif not self._own.get(("RELATION", *found)):
                self._named("TABLE", found, "TRUNCATE", says=TouchKind.ROWS)

    _READERS: ClassVar[dict[str, Callable[[Touches, TokenReader, bytes], None]]] = {
        "CREATE": _create,
        "DROP": _drop,
        "ALTER": _alter,
        "COMMENT": _describe,
        "SECURITY": _describe,
        "GRANT": _grant,
        "REVOKE": _grant,
        "SELECT": _select,
        "SET": _set,
        "RESET": _set,
        "DISCARD": _set,
        "REFRESH": _refresh,
        "TRUNCATE": _truncate,
    }
