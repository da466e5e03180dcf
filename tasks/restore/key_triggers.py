"""Keep the triggers of foreign keys as they were (ALTER TABLE … DISABLE TRIGGER ALL) when the keys are added again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import OperationFailedError
from ..postgres.connection import Connection, read_rows
from ..postgres.constraints import ForeignKey, run_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


# The triggers of the keys that PostgreSQL made for them, in the referencing and the referenced tables and in their
# partitions, for which a key has further constraints below its own.
_TRIGGERS = """
WITH RECURSIVE involved(oid, parent) AS (
    SELECT k.oid, k.conparentid FROM pg_catalog.pg_constraint k
     WHERE k.contype = 'f' AND (k.conrelid = ANY(%(tables)s) OR k.confrelid = ANY(%(tables)s))
     UNION
    SELECT k.oid, k.conparentid FROM involved i JOIN pg_catalog.pg_constraint k ON k.oid = i.parent
), parts(oid, top) AS (
    SELECT oid, oid FROM involved WHERE parent = 0
     UNION
    SELECT k.oid, p.top FROM parts p JOIN pg_catalog.pg_constraint k ON k.conparentid = p.oid
)
SELECT t.conrelid::pg_catalog.regclass::pg_catalog.text AS key_table, pg_catalog.quote_ident(t.conname) AS key,
       g.tgrelid::pg_catalog.regclass::pg_catalog.text AS table,
       pg_catalog.concat_ws(' ', f.proname, k.conrelid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass) AS role,
       pg_catalog.quote_ident(g.tgname) AS name, g.tgenabled::pg_catalog.text AS enabled,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER) AS owned
  FROM parts p JOIN pg_catalog.pg_constraint t ON t.oid = p.top JOIN pg_catalog.pg_constraint k ON k.oid = p.oid
  JOIN pg_catalog.pg_trigger g ON g.tgconstraint = k.oid AND g.tgisinternal
  JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
 ORDER BY 1, 2, 3, 4, 5
"""
_ENABLED = "O"
_ACTIONS = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


@dataclass(frozen=True, kw_only=True)
class KeyTrigger:
    """A trigger of a foreign key that is not simply enabled.

    :ivar key: The foreign key, of `key_table`, as SQL; `table` the table of the trigger.
    :ivar role: What it does, which is the same after the key was added again.
    :ivar enabled: As `pg_trigger.tgenabled`.
    :ivar owned: Whether the role may change it.
    """

    key_table: str
    key: str
    table: str
    role: str
    name: str
    enabled: str
    owned: bool

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return what is the same after the key was added again; the name is not."""
        return self.key_table, self.key, self.table, self.role


def read_key_triggers(
    connection: Connection, tables: Collection[int], keys: Sequence[ForeignKey]
) -> tuple[KeyTrigger, ...]:
    """Return the triggers of foreign keys that are disabled, or enabled in another way than by default.

    :param tables: The oids that the keys were read with.
    """
    return tuple(each for each in _read(connection, tables, keys) if each.enabled != _ENABLED)


def set_key_triggers(
    connection: Connection, tables: Collection[int], keys: Sequence[ForeignKey], triggers: Sequence[KeyTrigger]
) -> None:
    """Disable triggers of foreign keys again after the keys were added again.

    :param tables: The oids of the tables now.
    :raises OperationFailedError: A key has other triggers now.
    """
    if not triggers:
        return
    now = {each.identity: each.name for each in _read(connection, tables, keys)}
    for each in triggers:
        if each.identity in now:
            action = _ACTIONS[each.enabled]
            run_text(connection, f"ALTER TABLE ONLY {each.table} {action} TRIGGER {now[each.identity]}")
    if [each.identity for each in read_key_triggers(connection, tables, keys)] != [each.identity for each in triggers]:
        raise OperationFailedError("the triggers of foreign keys differ from before the restore")


def _read(connection: Connection, tables: Collection[int], keys: Sequence[ForeignKey]) -> list[KeyTrigger]:
    chosen = {(each.table, each.name) for each in keys}
    found = read_rows(connection, KeyTrigger, _TRIGGERS, {"tables": list(tables)})
    return [each for each in found if (each.key_table, each.key) in chosen]
