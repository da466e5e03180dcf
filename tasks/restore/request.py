"""The options of a restore, and which of them contradict each other."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadInputError
from ..safety.method import Method


@dataclass(frozen=True)
class RestoreRequest:
    """The options of a restore.

    :ivar owners: Set the owners of the dump.
    :ivar privileges: Set the grants of the dump.
    :ivar checksums: Compare the content of every table with the checksums in the manifest.
    :ivar strict: Refuse a dump that names missing roles, or after which no migration can be applied.
    :ivar backup: Make a safety dump before anything is deleted.
    :ivar disconnect: End the other sessions of the database first.
    :ivar migrate: Migrations follow. If they fail, the safety dump is restored, so it is always made.
    :ivar trust: Execute the code of the dump's authors with all rights of the role, without a question.
    :ivar replaces_all: Delete everything in the database that is not in the dump, also outside its schemas.
    :ivar lenient: Load statements that PostgreSQL refuses in the lenient way (:mod:`.lenient`), also from a dump of
        another database.
    :ivar create_roles: Create the roles that the dump names and the server lacks.
    :ivar skip_extensions: The extensions of the dump to leave out.
    :ivar preserve_order: Load the rows of each table in the order of the dump.
    :ivar tables: The names of the tables to restore; empty for all of the dump.
    :ivar data_only: Restore only the rows of these tables.
    :ivar method: How `clean` replaces the content.
    """

    file: str = ""
    clean: bool = False
    owners: bool = True
    privileges: bool = True
    strict: bool = False
    checksums: bool = False
    backup: bool = True
    replaces_all: bool = False
    migrate: bool = False
    disconnect: bool = False
    trust: bool = False
    lenient: bool = False
    preserve_order: bool = False
    create_roles: bool = False
    skip_extensions: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    data_only: bool = False
    method: Method = Method.TRANSACTION

    @property
    def may_swap(self) -> bool:
        """Return whether a staging database may take the place of the configured one."""
        return self.clean and self.method is not Method.TRANSACTION and not (self.replaces_all or self.tables)

    @property
    def sets_roles(self) -> bool:
        """Return whether owners or grants of the dump are set."""
        return self.owners or self.privileges


def refuse_contradictions(request: RestoreRequest) -> None:
    """Refuse flags that contradict --table.

    :raises BadInputError: There is one. Nothing was touched.
    """
    if request.data_only and not request.tables:
        raise BadInputError(
            "--data-only needs --table=NAME. Nothing was touched.", fix="Name the tables whose rows to restore."
        )
    others = {"--clean": request.clean, "--migrate": request.migrate, "--lenient": request.lenient}
    others["--skip-extension"] = bool(request.skip_extensions)
    if request.tables and (given := [flag for flag, is_given in others.items() if is_given]):
        raise BadInputError(
            f"{given[0]} can't be combined with --table, which changes only the tables. Nothing was touched.",
            fix="Omit one of the two.",
        )
