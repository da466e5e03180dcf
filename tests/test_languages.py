"""Exit codes are the same whatever language the server and the system speak."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from tests.servers import CONFIGURATION, OWNER, SUPERUSER, Server, clusters_dir
from tests.support import Database, Databases, Project, blocking, sharing_start

# They need a package of the system, which is hidden where the gate runs all tests.
pytestmark = pytest.mark.root

GERMAN: Final = "de_DE.UTF-8"
# Debian's PostgreSQL brings the translations; the packages of the other tests have none.
HOME: Final = Path("/usr/lib/postgresql/15/bin")
MESSAGES: Final = Path("/usr/share/locale/de/LC_MESSAGES/postgres-15.mo")
SHOP: Final = """
CREATE TABLE public.item AS SELECT n AS id FROM generate_series(1, 100) AS n;
CREATE TABLE public.secret (id integer);
REVOKE ALL ON public.item, public.secret FROM PUBLIC;
"""
# More tables than the server has locks for.
CROWD: Final = """
DO $$ BEGIN FOR n IN 1 .. 1500 LOOP
  EXECUTE format('CREATE TABLE public.t%s ()', n);
  IF n % 300 = 0 THEN COMMIT; END IF;
END LOOP; END $$;
"""
END: Final = "\n--\n-- PostgreSQL database dump complete\n--\n"


class Speaker(NamedTuple):
    """A server, and the variables of a person who speaks its language."""

    server: Server
    environ: dict[str, str | None]
    german: bool


class Case(NamedTuple):
    """Something that ends with an exit code of its own.

    :ivar args: What is asked of `inv`.
    :ivar dump: The text of a dump beforehand, `dumps/given.sql`, or none.
    :ivar lock: What another session holds meanwhile.
    :ivar before: What a superuser does in the database first.
    :ivar english: A part of the server's own message, and `german` the same in German; empty where it says nothing.
    """

    code: int
    args: tuple[str, ...]
    dump: str = ""
    lock: str = ""
    before: str = ""
    role: str = SUPERUSER
    url: Callable[[str], str] = str
    english: str = ""
    german: str = ""


RESTORE: Final = ("db.restore", "--file=given.sql", "--yes")
CASES: Final = {
    "a wrong password": Case(4, ("db.dump",), url=lambda url: url.replace(":s3cr3t", ":wrong")),
    "no such role": Case(4, ("db.dump",), url=lambda url: url.replace("//postgres:", "//nemo:")),
    "no such database": Case(4, ("db.dump",), url=lambda url: url + "_gone"),
    "no such database, restored": Case(4, RESTORE, dump="SELECT 1;", url=lambda url: url + "_gone"),
    "a dump that waits for a table": Case(4, ("db.dump",), lock="LOCK TABLE public.item"),
    "a pattern that waits for a table": Case(
        4, ("db.dump", "--exclude-data=public.item"), lock="LOCK TABLE public.item"
    ),
    "a pattern that matches nothing": Case(2, ("db.dump", "--exclude-data=nothing")),
    "a dump without the right to it": Case(
        5, ("db.dump",), role=OWNER, english="permission denied", german="keine Berechtigung"
    ),
    "a dump without enough locks": Case(5, ("db.dump",), before=CROWD),
    "a restore that waits for a table": Case(
        4,
        (*RESTORE, "--clean"),
        dump="CREATE TABLE public.item (id integer);",
        lock="LOCK TABLE public.item IN ACCESS SHARE MODE",
    ),
    "a restore that waits while it loads": Case(
        4, RESTORE, dump="ALTER TABLE public.item ADD n integer;", lock="LOCK TABLE public.item IN ACCESS SHARE MODE"
    ),
    "objects that are there already": Case(
        5, RESTORE, dump="CREATE TABLE public.item ();", english="already exists", german="existiert bereits"
    ),
    "a statement that is none": Case(
        5, RESTORE, dump="CREATE NONSENSE;", english="syntax error", german="Syntaxfehler"
    ),
    "rows that a constraint refuses": Case(
        5,
        RESTORE,
        dump="ALTER TABLE public.item ADD CHECK (id < 50);",
        english="is violated by some row",
        german="wird von irgendeiner Zeile verletzt",
    ),
    "a role that a policy needs": Case(2, RESTORE, dump="CREATE POLICY p ON public.item TO ghost USING (true);"),
    "an owner that is missing, forgiven": Case(0, RESTORE, dump="ALTER TABLE public.item OWNER TO ghost;"),
    "an owner that is missing, --strict": Case(
        2, (*RESTORE, "--strict"), dump="ALTER TABLE public.item OWNER TO ghost;"
    ),
    "a grant that is not ours, left out": Case(
        0,
        (*RESTORE, "--trust", "--no-backup"),
        role=OWNER,
        before=f"GRANT CREATE ON SCHEMA public TO {OWNER}",
        dump=f"CREATE TABLE public.mine (); GRANT SELECT ON public.item TO {OWNER};",
    ),
    "a drop of what is not there": Case(0, RESTORE, dump="DROP TABLE public.gone; CREATE TABLE public.mine ();"),
    "a reset that waits for a table": Case(
        4, ("db.reset", "--yes"), lock="LOCK TABLE public.item IN ACCESS SHARE MODE"
    ),
    "a reset without the right to it": Case(2, ("db.reset", "--yes"), role=OWNER),
    "a reset of a schema that is not there": Case(2, ("db.reset", "--schema=gone", "--yes")),
    "a verification that finds a difference": Case(
        6, ("db.verify", "--file=given.sql"), dump="COPY public.item (id) FROM stdin;\n1\n\\.\n"
    ),
}


@pytest.fixture(scope="module")
def locales() -> Iterator[Path]:
    """Return a folder with the German locale, made without root."""
    sources = Path("/usr/share/i18n/locales/de_DE")
    if not (HOME.is_dir() and MESSAGES.exists() and sources.exists() and shutil.which("localedef")):
        pytest.skip("On Debian 12 `apt-get install postgresql-15 locales` brings German messages and the locale.")
    with tempfile.TemporaryDirectory(prefix="locales-", dir=clusters_dir()) as folder:
        Path(folder).chmod(0o755)
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", Path(folder, GERMAN)], check=True)
        yield Path(folder)


@pytest.fixture(scope="module", params=["C", GERMAN], ids=["English", "German"])
def speaker(request: pytest.FixtureRequest, locales: Path) -> Iterator[Speaker]:
    """Return a server that speaks a language, with few locks."""
    language = request.param
    added = f"lc_messages = '{language}'\nmax_connections = 20\nmax_locks_per_transaction = 10\n"
    server = Server.launch(15, HOME, configuration=CONFIGURATION + added, environ={"LOCPATH": str(locales)})
    environ = {"LOCPATH": str(locales), "LANG": language, "LANGUAGE": "de"}
    try:
        with sharing_start(environ):
            yield Speaker(server, {**environ}, language == GERMAN)
    finally:
        server.close()


@pytest.fixture
def shop(speaker: Speaker) -> Iterator[Database]:
    """Return a small database on that server."""
    with Databases(speaker.server) as databases:
        database = databases()
        database.execute(SHOP)
        yield database


def test_the_server_and_the_programs_speak_the_language(speaker: Speaker, shop: Database) -> None:
    """Else the other tests of this module prove nothing."""
    with pytest.raises(psycopg.errors.UndefinedTable) as refused:
        shop.execute("SELECT FROM nowhere")
    environ = {name: value for name, value in speaker.environ.items() if value is not None}
    done = subprocess.run([HOME / "pg_dump", "--none"], env=environ, capture_output=True, text=True, check=False)

    assert ("existiert nicht" in str(refused.value)) == speaker.german
    assert ("Unbekannte Option" in done.stderr) == speaker.german


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_exit_codes_depend_on_no_language(case: Case, speaker: Speaker, shop: Database, project: Project) -> None:
    """The exit code is that of the table, in English and in German, and no traceback is shown."""
    if case.before:
        shop.execute(case.before)
    if case.dump:
        (project.dumps / "given.sql").write_text(case.dump + END, encoding="utf-8")
    environ: dict[str, str | None] = {**speaker.environ, "INVOKE_DB_LOCK_TIMEOUT": "300ms"}
    project.use(shop, case.role).env["DATABASE_URL"] = case.url(shop.url_as(case.role))

    held: Any = blocking(shop, case.lock) if case.lock else nullcontext()
    with held:
        result = project.inv(*case.args, env=environ)

    assert result.returncode == case.code, result.stderr
    assert "Traceback" not in result.stderr
    assert (case.german if speaker.german else case.english) in result.stderr
