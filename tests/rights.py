"""Who may do what: situations of roles and databases, and what becomes of each operation in them.

`docs/matrices.py` writes what it finds here into `docs/compatibility.md`, and a test compares the two.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.doctor.doctor import examine
from tasks.dump.dump import make_dump
from tasks.dump.request import DumpRequest
from tasks.errors import TaskError
from tasks.progress import Silence
from tasks.restore.plan import RestorePlan, plan_restore
from tasks.restore.request import RestoreRequest
from tasks.restore.reset import plan_reset, reset_database
from tasks.restore.restore import restore_dump
from tasks.scratch.rehearse import rehearse_dump
from tasks.verify.verify import VerifyRequest, verify_database
from tests.flows import Said, plan_dump_undo, settings_of
from tests.servers import OWNER, PASSWORD, SUPERUSER, Server
from tests.support import Database, Databases, Project

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.config.settings import Settings
    from tasks.dump.dump import Dumped
    from tasks.restore.restore import Restored

READER, CREATOR, GONE = "rights_reader", "rights_creator", "rights_gone"
SPACE = "rights_space"
OPERATIONS = ("dump", "restore", "restore --clean", "reset", "undo", "verify", "rehearse", "doctor")
_SHOP = f"""
SET ROLE {OWNER};
CREATE TABLE item (id serial PRIMARY KEY, name text);
INSERT INTO item (name) SELECT 'item ' || i FROM generate_series(1, 20) i;
CREATE TABLE part (item integer REFERENCES item);
CREATE VIEW named AS SELECT name FROM item;
RESET ROLE;
"""
_ROLES = f"""
DROP ROLE IF EXISTS {GONE};
CREATE ROLE {GONE};
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN
    CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}';
    CREATE ROLE {CREATOR} LOGIN CREATEDB PASSWORD '{PASSWORD}' IN ROLE {OWNER};
  END IF;
END $$;
"""


@dataclass(frozen=True)
class Situation:
    """A role before a database.

    :ivar title: As the table calls it.
    :ivar sql: What a superuser makes on top of the shop, which belongs to a plain owner.
    :ivar after: What a superuser does once there is a dump of it, so that the target lacks something.
    :ivar text: What stands in the dump beside that, as pg_dump would write it.
    """

    title: str
    role: str = OWNER
    sql: str = ""
    after: str = ""
    text: bytes = b""
    encoding: str = "UTF8"


SITUATIONS = {
    "superuser": Situation("a superuser", SUPERUSER),
    "owner": Situation("the owner, who may not create databases"),
    "creator": Situation("a member of the owner's role, who may create databases", CREATOR),
    "reads all": Situation(
        "a role that may read all (`pg_read_all_data`)",
        READER,
        f"GRANT pg_read_all_data TO {READER}",
    ),
    "reads some": Situation("a role that may read some (GRANT SELECT)", READER, f"GRANT SELECT ON item TO {READER}"),
    "row security": Situation(
        "row-level security, the owner",
        sql="ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON item USING (id < 5)",
    ),
    "row security, reader": Situation(
        "row-level security, a role that may read all",
        READER,
        f"GRANT pg_read_all_data TO {READER}; ALTER TABLE item ENABLE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON item USING (id < 5)",
    ),
    "forced": Situation(
        "FORCE ROW LEVEL SECURITY, the owner",
        sql="ALTER TABLE item ENABLE ROW LEVEL SECURITY; ALTER TABLE item FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON item USING (id < 5)",
    ),
    "forced, superuser": Situation(
        "FORCE ROW LEVEL SECURITY, a superuser",
        SUPERUSER,
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY; ALTER TABLE item FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON item USING (id < 5)",
    ),
    "schema of another": Situation(
        "a schema of somebody else, the owner of the database",
        sql="CREATE SCHEMA theirs; CREATE TABLE theirs.t AS SELECT 1 AS one",
    ),
    "untrusted extension": Situation(
        "an extension that only a superuser can create, the owner", sql="CREATE EXTENSION pageinspect"
    ),
    "roles are missing": Situation(
        "owners and grantees that the target lacks, the owner",
        sql=f"CREATE TABLE lost AS SELECT 1 AS one; ALTER TABLE lost OWNER TO {GONE}; GRANT SELECT ON item TO {GONE}",
        after=f"REASSIGN OWNED BY {GONE} TO {OWNER}; DROP OWNED BY {GONE}; DROP ROLE {GONE}",
    ),
    "event trigger": Situation(
        "an event trigger, the owner",
        sql="CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER watches ON ddl_command_end EXECUTE FUNCTION watch()",
    ),
    "event trigger, superuser": Situation(
        "an event trigger, a superuser",
        SUPERUSER,
        "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER watches ON ddl_command_end EXECUTE FUNCTION watch()",
    ),
    "publication": Situation("a publication of all tables, the owner", sql="CREATE PUBLICATION news FOR ALL TABLES"),
    "publication, superuser": Situation(
        "a publication of all tables, a superuser", SUPERUSER, "CREATE PUBLICATION news FOR ALL TABLES"
    ),
    "publication of a table": Situation(
        "somebody else's publication of one table, the owner", sql="CREATE PUBLICATION news FOR TABLE item"
    ),
    "subscription": Situation(
        "a subscription with a slot, the owner",
        sql="CREATE SUBSCRIPTION follows CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false);"
        " ALTER SUBSCRIPTION follows SET (slot_name = 'a_slot')",
    ),
    "subscription, superuser": Situation(
        "a subscription with a slot, a superuser",
        SUPERUSER,
        "CREATE SUBSCRIPTION follows CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false);"
        " ALTER SUBSCRIPTION follows SET (slot_name = 'a_slot')",
    ),
    "security label": Situation(
        "security labels whose provider is not loaded, the owner",
        text=b"SECURITY LABEL FOR anon ON COLUMN public.item.name IS 'MASKED WITH FUNCTION fake_name()';\n",
    ),
    "tablespace": Situation(
        "a tablespace that the target lacks, the owner",
        sql=f"SET allow_in_place_tablespaces = on; CREATE TABLESPACE {SPACE} LOCATION '';"
        f" GRANT CREATE ON TABLESPACE {SPACE} TO {OWNER}; ALTER TABLE item SET TABLESPACE {SPACE}",
        after=f"ALTER TABLE item SET TABLESPACE pg_default; DROP TABLESPACE {SPACE}",
    ),
    "LATIN1": Situation(
        "a database in LATIN1, the owner", encoding="LATIN1", sql="INSERT INTO item VALUES (99, 'Zoë')"
    ),
    "SQL_ASCII": Situation(
        "a database in SQL_ASCII, the owner", encoding="SQL_ASCII", sql=r"INSERT INTO item VALUES (99, E'Zo\xeb')"
    ),
}


@dataclass(frozen=True)
class Cell:
    """What became of an operation.

    :ivar code: Its exit status.
    :ivar says: The sentence, what was left out, or what the doctor finds wrong; empty where all is well.
    """

    code: int
    says: str = ""

    @property
    def short(self) -> str:
        """What stands in the table."""
        if self.code:
            return {2: "refused", 3: "finds", 6: "differs"}.get(self.code, "rolled back") + f" ({self.code})"
        return "leaves out" if self.says else "works"


def row(name: str, server: Server, folder: Callable[[str], Project]) -> dict[str, Cell]:
    """Try every operation in a situation.

    :param folder: Makes a project of a name.
    """
    situation = SITUATIONS[name]
    with server.connect() as connection:
        connection.execute(_ROLES.encode())
    with Databases(server) as databases, contextlib.ExitStack() as stack:
        stack.callback(_tidy, server)
        there = databases(owner=OWNER, encoding=None if situation.encoding == "UTF8" else situation.encoding)
        # One after the other: a tablespace is made in no transaction.
        for part in (_SHOP, *re.split(r";\s(?=CREATE TABLESPACE|GRANT CREATE|ALTER TABLE item SET T)", situation.sql)):
            with there.connect(options="-c allow_in_place_tablespaces=on") as connection:
                connection.execute(part.removeprefix("SET allow_in_place_tablespaces = on; ").encode())
        project = folder(name)
        reference = _reference(project, there, situation)
        for part in filter(None, situation.after.split("; ")):
            there.execute(part)
        empty = databases(owner=OWNER, encoding=None if situation.encoding == "UTF8" else situation.encoding)
        return _Row(project, there, empty, situation, str(reference)).cells()


def _tidy(server: Server) -> None:
    with server.connect() as connection:
        connection.execute(f"REVOKE pg_read_all_data FROM {READER}".encode())


def _reference(project: Project, there: Database, situation: Situation) -> object:
    """Make the dump that is restored: by a superuser, who sees all."""
    dumped = make_dump(settings_of(project, there), DumpRequest(file="reference.sql"), Silence())
    assert dumped is not None
    if situation.text:
        (project.dumps / "reference.manifest.json").unlink()
        trailer = b"--\n-- PostgreSQL database dump complete"
        dumped.path.write_bytes(dumped.path.read_bytes().replace(trailer, situation.text + trailer))
    return dumped.path


@dataclass
class _Row:
    """All operations of one situation, each beginning where the one before ended."""

    project: Project
    there: Database
    empty: Database
    situation: Situation
    reference: str

    def cells(self) -> dict[str, Cell]:
        here, empty = (settings_of(self.project, each, self.situation.role) for each in (self.there, self.empty))
        request = RestoreRequest(self.reference)
        clean = RestoreRequest(self.reference, clean=True)
        return {
            "dump": self._try(lambda heard: self._dump(here, heard)),
            "restore": self._try(lambda heard: self._restore(plan_restore(empty, request, heard), heard)),
            "restore --clean": self._try(lambda heard: self._restore(plan_restore(here, clean, heard), heard)),
            "reset": self._try(lambda heard: reset_database(plan_reset(here, ["public"], heard), heard)),
            "undo": self._try(lambda heard: self._restore(plan_dump_undo(here, heard), heard)),
            "verify": self._verify(here),
            "rehearse": self._try(lambda heard: rehearse_dump(here, self.reference, heard)),
            "doctor": self._doctor(here),
        }

    def _try(self, work: Callable[[Said], object]) -> Cell:
        heard = Said()
        try:
            found = work(heard)
        except TaskError as error:
            return Cell(error.exit_code, self._plain(str(error)))
        return Cell(0, found if isinstance(found, str) else "")

    def _dump(self, settings: Settings, heard: Said) -> Dumped | None:
        return make_dump(settings, DumpRequest(file="own.sql"), heard)

    def _restore(self, plan: RestorePlan, heard: Said) -> str:
        restored: Restored = restore_dump(plan, heard)
        usual = re.compile("settings of|DROP|CREATE SCHEMA|COMMENT ON|SET transaction_timeout|BEGIN and")
        left = Counter({str(why): count for why, count in restored.left_out.items() if not usual.match(str(why))})
        return self._plain("; ".join(f"{count} {why}" for why, count in sorted(left.items())))

    def _verify(self, settings: Settings) -> Cell:
        try:
            found = verify_database(settings, VerifyRequest(file=self.reference), Silence())
        except TaskError as error:
            return Cell(error.exit_code, self._plain(str(error)))
        return Cell(6, self._plain("; ".join(map(str, found.differences)))) if found.differences else Cell(0)

    def _doctor(self, settings: Settings) -> Cell:
        found = examine(settings, Silence()).wrong
        # The folder is this test's, the age of the dumps as well.
        found = [each for each in found if each.name.startswith(("rights", "locks", "login"))]
        return Cell(3, self._plain("; ".join(each.what for each in found))) if found else Cell(0)

    def _plain(self, text: str) -> str:
        """Take out what is another in every run."""
        for database, name in ((self.there, "shop"), (self.empty, "empty")):
            text = text.replace(database.name, name)
        text = re.sub(r" at 127\.0\.0\.1:\d+|test_[0-9a-f]{12}", "", text)
        text = re.sub(r"invoke_postgres_rehearsal_\w+", "scratch", text)
        for role, said in ((READER, "reader"), (CREATOR, "creator"), (GONE, "gone"), (SPACE, "fast")):
            text = text.replace(role, said)
        return text.replace(str(self.project.dumps), "dumps").replace("|", "/")
