"""Whatever a person types, sets, downloads or leaves lying about ends in one sentence and the right exit code.

The table is complete on its own: flags, configuration, URLs, `.env`, files, manifests, programs, servers. Each row
runs the real command against a real server, and asserts that neither the database nor a file was changed.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import stat
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import PASSWORD, SUPERUSER, free_port
from tests.support import Database, Databases, Project

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.servers import Server

GOOD = b"""--
-- PostgreSQL database dump
--

CREATE TABLE public.new (v text);

COPY public.new (v) FROM stdin;
some text of a row
\\.

--
-- PostgreSQL database dump complete
--
"""
PACKED, SQUEEZED = gzip.compress(GOOD), zstd.compress(GOOD, options={zstd.CompressionParameter.checksum_flag: 1})
END = "\n--\n-- PostgreSQL database dump complete\n--\n"
FILE = "dumps/given.sql"
RESTORE = "db.restore --clean --yes --no-backup --file=given.sql"
NOISE = bytes(range(1, 256)) * 8


@dataclass(frozen=True)
class Row:
    """One wrong thing.

    :ivar words: What is typed behind `inv`.
    :ivar env: Variables on top of a working environment; `{address}` is the server's, `{nowhere}` a URL of no database.
    :ivar files: What lies in the project, by path.
    :ivar prepare: Does what a file's content can't say.
    """

    words: str
    code: int
    said: str
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    prepare: Callable[[Project], object] | None = None


def flipped(content: bytes, at: int) -> bytes:
    """Flip one bit."""
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def restored(content: bytes | str, said: str, code: int = 2, name: str = "given.sql") -> Row:
    """Restore a file of this content."""
    return Row(f"db.restore --clean --yes --no-backup --file={name}", code, said, files={f"dumps/{name}": content})


def configured(name: str, value: str, said: str, code: int = 2, words: str = "db.dump") -> Row:
    """Dump with a variable of the configuration."""
    return Row(words, code, said, env={f"INVOKE_DB_{name}": value})


def yaml(text: str | bytes, said: str, code: int = 2) -> Row:
    """Dump with an invoke.yaml."""
    return Row("db.dump", code, said, files={"invoke.yaml": text})


def url(value: str, said: str, code: int = 2) -> Row:
    """Dump from a URL."""
    return Row("db.dump", code, said, env={"DATABASE_URL": value})


def dotenv(text: str | bytes, said: str) -> Row:
    """Dump with a .env, and no variable that would go before it."""
    return Row("db.dump --url-env=OTHER_URL", 2, said, files={".env": text})


def manifest(said: str, code: int = 2, **keys: Any) -> Row:
    """Restore a good dump beside a manifest that is not."""
    document = {**MANIFEST, **keys}
    text = json.dumps({key: value for key, value in document.items() if value is not ...})
    return Row(RESTORE, code, said, files={FILE: GOOD, "dumps/given.manifest.json": text})


def placed(said: str, prepare: Callable[[Project], object], words: str = RESTORE, code: int = 2) -> Row:
    """Restore something that is no ordinary file."""
    return Row(words, code, said, prepare=prepare)


def bound(project: Project) -> None:
    """Make a socket; its path may be short only."""
    here = os.open(project.dumps, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/given.sql")
    os.close(here)


SUMS = {"bytes": len(GOOD), "sha256": "0" * 64}
MANIFEST: dict[str, Any] = {
    "format": 1,
    "created": "2025-01-01T00:00:00.000Z",
    "note": "",
    "git": None,
    "source": {"host": "h", "port": 5432, "database": "d", "server_version": "17.6", "system_identifier": None},
    "pg_dump": {"version": "17.6", "options": []},
    "file": {"name": "given.sql", "compression": "none", **SUMS},
    "content": SUMS,
    "tables": [],
    "excluded_data": [],
    "sequences": [],
    "outline": {},
    "facts": {},
    "seconds": 1.0,
}

FLAGS = {
    "unknown task": Row("db.nonsense", 1, "No idea what 'db.nonsense' is!"),
    "unknown flag": Row("db.dump --nonsense", 1, "No idea what '--nonsense' is!"),
    "flag without its value": Row("db.dump --file", 1, "needed value and was not given one"),
    "repeated flag without its value": Row("db.restore --table", 1, "--table needed value and was not given one"),
    "repeated flag whose second value is missing": Row(
        "db.dump --exclude-data a --exclude-data --zstd", 1, "--exclude-data needed value and was not given one"
    ),
    "flag for a value": Row("db.restore --table --file=given.sql", 1, "--table needed value and was not given one"),
    "flag of a later task without its value": Row("db.dump db.reset --schema", 1, "--schema needed value"),
    "word for a number": Row("db.show --file=given.sql --table=t --limit=x", 2, "--limit must be a whole number"),
    "no rows at all": Row("db.list --limit=0", 2, "--limit must be a whole number"),
    "two compressions": Row("db.dump --gzip --zstd", 2, "--gzip and --zstd cannot be combined"),
    "empty file": Row("db.dump --file=", 2, "--file= is empty"),
    "name of another kind": Row("db.dump --file=given.txt", 2, ".sql.zst"),
    "hidden name": Row("db.dump --file=.given.sql", 2, "hidden file"),
    "folder that is not there": Row("db.dump --file=nowhere/given.sql", 2, "does not exist"),
    "name that is taken": Row("db.dump --file=given.sql.gz", 2, "exists already", files={FILE: GOOD}),
    "name and flag": Row("db.dump --gzip --file=given.sql.zst", 2, "--file=given.sql.zst and --gzip"),
    "name that is too long": Row(f"db.dump --file={'x' * 250}.sql", 2, "is too long"),
    "pattern that matches nothing": Row("db.dump --exclude-data=nothing_like_it", 2, "matches no table"),
    "empty note": Row("db.dump --note=", 2, "--note="),
    "empty schema": Row("db.reset --schema= --yes", 2, "--schema="),
    "database that another folder keeps": Row(
        "db.delete --file=shop__before_20261130_192954_e1fa --yes",
        2,
        'DROP DATABASE "shop__before_20261130_192954_e1fa"',
    ),
    "empty variable's name": Row("db.dump --url-env=", 2, "--url-env= is empty"),
    "variable that is not set": Row("db.dump --url-env=NOT_SET", 2, "NOT_SET is not set in"),
    "URL for a name": Row(
        "db.dump --url-env=postgresql://u:s3cr3t@h/d", 2, "needs the name of an environment variable"
    ),
    "no dump": Row("db.restore", 2, "There is no dump of"),
    "missing file": Row("db.restore --file=nowhere.sql", 2, "There is no dump 'nowhere.sql'"),
    "other form of the file": Row(RESTORE, 2, "but there is given.sql.gz", files={f"{FILE}.gz": PACKED}),
    "empty confirmation": Row(f"{RESTORE} --confirm=", 2, "--confirm= is empty", files={FILE: GOOD}),
    "schema that is not there": Row("db.reset --yes --schema=nowhere", 2, "nowhere"),
    "schema of the system": Row(
        "db.reset --yes --schema=pg_catalog", 2, "pg_catalog can't be emptied: it is PostgreSQL's own"
    ),
    "nothing to undo": Row("db.undo --yes", 2, "There is no safety dump"),
    "other database that is not set": Row("db.verify --against-url-env=NOT_SET", 2, "NOT_SET is not set in"),
    "dump to verify": Row("db.verify --file=nowhere.sql", 2, "There is no dump"),
    "dump to rehearse": Row("db.rehearse --file=nowhere.sql", 2, "There is no dump"),
    "dump to inspect": Row("db.inspect --file=nowhere.sql", 2, "There is no dump"),
    "dump to compress": Row("db.gzip --file=nowhere.sql", 2, "There is no dump"),
    "nothing to migrate": Row("db.migrate", 3, "node_modules/.bin/prisma is missing"),
    "nothing to generate": Row("db.generate", 3, "node_modules/.bin/prisma is missing"),
    "sums that were never made": Row(f"{RESTORE} --checksums", 2, "has no checksums", files={FILE: GOOD}),
}
CONFIGURATION = {
    "compression": configured("COMPRESS", "lz4", "must be one of none, gzip, zstd"),
    "output": configured("OUTPUT", "loud", "must be one of quiet, normal, verbose"),
    "timeout in words": configured("LOCK_TIMEOUT", "soon", "must be a duration"),
    "timeout below zero": configured("LOCK_TIMEOUT", "-1", "must be a duration"),
    "timeout beyond PostgreSQL's": configured("LOCK_TIMEOUT", "99999999s", "longer than PostgreSQL can wait"),
    "backups in words": configured("BACKUP", "many", "must be a whole number"),
    "backups below zero": configured("BACKUP", "-1", "must be a whole number"),
    "no folder": configured("DUMPS_DIR", "", "must not be empty"),
    "folder of nobody": configured("DUMPS_DIR", "~nobody-of-that-name/x", "can't be used"),
    "folder that is a file": configured("DUMPS_DIR", "tasks.py", "can't be used", code=5),
    "no variable": configured("URL_ENV", "", "must not be empty"),
    "programs that are nowhere": configured("BIN_DIR", "/nowhere", "the folder /nowhere, which", code=3),
    "misspelt setting": configured("PROTECTD", "prod", "There is no setting INVOKE_DB_PROTECTD"),
    "Prisma that is nowhere": configured(
        "PRISMA_DIR", "/nowhere", "Prisma is not installed in /nowhere", code=3, words="db.migrate"
    ),
    "YAML of a list for a text": yaml("db:\n  compress: [gzip]\n", "must be a text or a number"),
    "YAML of a truth for a folder": yaml("db:\n  dumps_dir: true\n", "must be a text or a number"),
    "YAML of an unknown key": yaml("db:\n  keeps: 7\n", "There is no setting db.keeps"),
}
URLS = {
    "empty": url("", "is empty"),
    "other database": url("mysql://u:s3cr3t@h/d", "PostgreSQL"),
    "Prisma's own": url("prisma+postgres://accelerate.prisma-data.net/?api_key=s3cr3t", "PostgreSQL"),
    "file": url("file:./dev.db", "PostgreSQL"),
    "no URL": url("host=h password=s3cr3t", "PostgreSQL"),
    "port in words": url("postgresql://u:s3cr3t@h:port/d", "port"),
    "port beyond all": url("postgresql://u:s3cr3t@h:99999/d", "port"),
    "broken percent": url("postgresql://u:s3cr3t%zz@h/d", "%"),
    "two values": url("postgresql://u:s3cr3t@h/d?schema=a&schema=b", "schema"),
    "certificate that libpq can't read": url("postgresql://u:s3cr3t@h/d?sslidentity=a.p12", "sslidentity"),
    "no such server": url(f"postgresql://u:s3cr3t@127.0.0.1:{free_port()}/d", "No connection to", 4),
    "no such host": url("postgresql://u:s3cr3t@nowhere.invalid/d", "No connection to", 4),
    "wrong password": url("postgresql://postgres:s3cr3t@{address}/postgres", "password authentication failed", 4),
    "no such role": url("postgresql://nobody:s3cr3t@{address}/postgres", "No connection to", 4),
    "no such database": url("{nowhere}", "does not exist", 4),
    ".env with a sign": dotenv("OTHER_URL=postgresql://u:s3cr3t#1@h/d\n", "quote"),
    ".env with backticks": dotenv("OTHER_URL=`postgresql://u:s3cr3t@h/d`\n", "quote"),
    ".env of nothing": dotenv("", "OTHER_URL is not set in"),
    ".env that refers to nothing": dotenv("OTHER_URL=postgresql://${NOBODY}:s3cr3t@h/d\n", "NOBODY"),
    ".env that is no text": dotenv(b"OTHER_URL=\xff\xfe\n", ".env"),
}
FILES = {
    "nothing": restored(b"", "is empty"),
    "zeros": restored(bytes(1000), "binary data"),
    "picture": restored(b"\x89PNG\r\n\x1a\n" + NOISE, "binary data"),
    "text": restored(b"hello, world\n", "ends inside a statement"),
    "JSON": restored(b'{"name": "shop"}', "is JSON, not a dump"),
    "PDF": restored(b"%PDF-1.7\n" + NOISE, "is a PDF"),
    "ZIP": restored(b"PK\x03\x04" + NOISE, "a ZIP archive"),
    "bzip2": restored(b"BZh91AY&SY" + NOISE, "bunzip2", name="given.sql.gz"),
    "xz": restored(b"\xfd7zXZ\x00" + NOISE, "unxz"),
    "lz4": restored(b"\x04\x22\x4d\x18" + NOISE, "unlz4"),
    "tar": restored(b"toc.dat" + bytes(93), "tar format"),
    "SQLite": restored(b"SQLite format 3\x00" + NOISE, "SQLite"),
    "MySQL": restored(b"-- MySQL dump 10.13\n", "MySQL"),
    "HTML": restored(b"<!DOCTYPE html><title>404</title>", "HTML"),
    "Git LFS": restored(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "age": restored(b"age-encryption.org/v1\n" + NOISE, "encrypted with age"),
    "age in letters": restored(b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n", "encrypted with age"),
    "PGP": restored(b"\x85\x02\x0c\x03" + NOISE, "or is encrypted"),
    "PGP in letters": restored(b"-----BEGIN PGP MESSAGE-----\n\nhQ==\n", "gpg --decrypt"),
    "openssl": restored(b"Salted__" + NOISE, "encrypted with openssl"),
    "UTF-16": restored(GOOD.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": restored(GOOD.decode().encode("utf-16-le"), "binary data"),
    "Windows line ends": restored(GOOD.replace(b"\n", b"\r\n"), "CRLF"),
    "cut in a row": restored(GOOD[:120], "ends inside the rows"),
    "cut before its end": restored(GOOD[:140], "-- PostgreSQL database dump complete"),
    "zero in a row": restored(GOOD.replace(b"text of", b"text\0of"), "zero byte"),
    "gzip of nothing": restored(gzip.compress(b""), "-- PostgreSQL database dump complete", name="given.sql.gz"),
    "gzip that is cut": restored(PACKED[:-20], "cut or damaged", name="given.sql.gz"),
    "gzip with a flipped bit": restored(flipped(PACKED, len(PACKED) // 2), "given.sql.gz", name="given.sql.gz"),
    "gzip with garbage behind": restored(PACKED + b"garbage", "cut or damaged", name="given.sql.gz"),
    "gzip in gzip": restored(gzip.compress(PACKED), "compressed twice", name="given.sql.gz"),
    "archive in gzip": restored(gzip.compress(b"PGDMP\x01\x10"), "pg_dump archive", name="given.sql.gz"),
    "PDF in gzip": restored(gzip.compress(b"%PDF-1.7"), "a PDF", name="given.sql.gz"),
    "members of which the last is cut": restored(PACKED + PACKED[:-9], "cut or damaged", name="given.sql.gz"),
    "zstd that is cut": restored(SQUEEZED[:-9], "cut or damaged", name="given.sql.zst"),
    "zstd with a flipped bit": restored(flipped(SQUEEZED, 60), "cut or damaged", name="given.sql.zst"),
    "zstd with garbage behind": restored(SQUEEZED + b"garbage", "cut or damaged", name="given.sql.zst"),
    "archive that is cut": restored(b"PGDMP\x01\x10\x00" + NOISE, "pg_restore", name="given.dump"),
    "end of the transaction": restored("COMMIT;" + END, "COMMIT at top level"),
    "other database inside": restored("\\connect other\n" + END, "\\connect"),
    "shell inside": restored("\\! touch given\n" + END, "psql command"),
    "encoding that can't be split": restored("SET client_encoding = 'SJIS';" + END, "--encoding=UTF8"),
    "program inside": Row(
        RESTORE,
        2,
        "given.sql was not made here",
        env={"INVOKE_DB_TRUST": "ask"},
        files={FILE: "COPY public.kept FROM PROGRAM 'touch given';" + END},
    ),
    "error inside": restored("SELECT 1 FROM nowhere;" + END, 'relation "nowhere" does not exist', code=5),
    "syntax error inside": restored("CREATE TABLE public.x (y);" + END, "was rolled back", code=5),
    "role that is missing": restored(
        "CREATE POLICY p ON public.t TO nobody;" + END, "the role nobody, which is missing"
    ),
    "extension that is missing": restored("CREATE EXTENSION nowhere;" + END, "needs the extension nowhere"),
    "folder": placed("is a folder", lambda project: (project.dumps / "given.sql").mkdir()),
    "pipe": placed("a pipe, a socket or a device", lambda project: os.mkfifo(project.dumps / "given.sql")),
    "socket": placed("a pipe, a socket or a device", bound),
    "device": Row("db.restore --file=/dev/zero", 2, "a pipe, a socket or a device"),
    "link to nowhere": placed(
        "a link to a file that does not exist", lambda project: (project.dumps / "given.sql").symlink_to("nowhere")
    ),
    "link to itself": placed(
        "Too many levels of symbolic links", lambda project: (project.dumps / "given.sql").symlink_to("given.sql")
    ),
    "link to a device": placed(
        "a pipe, a socket or a device", lambda project: (project.dumps / "given.sql").symlink_to("/dev/zero")
    ),
    "link to something else": placed(
        "is not a dump, or it is damaged", lambda project: (project.dumps / "given.sql").symlink_to("../tasks.py")
    ),
    "name that writes to the terminal": Row("db.restore --file=\x1b[2J.sql", 2, "\\x1b[2J.sql"),
    "gzip to expand that is cut": Row(
        "db.gunzip --file=given.sql.gz", 2, "cut or damaged", files={"dumps/given.sql.gz": PACKED[:-20]}
    ),
    "new name that is taken": Row(
        "db.gunzip --file=given.sql.gz", 2, "exists already", files={"dumps/given.sql.gz": PACKED, FILE: GOOD}
    ),
    "name that lies": Row("db.gunzip --file=given.sql", 2, "gzip. Nothing was changed", files={FILE: PACKED}),
}
MANIFESTS = {
    "empty": Row(RESTORE, 2, "can't be used", files={FILE: GOOD, "dumps/given.manifest.json": b""}),
    "list": Row(RESTORE, 2, "not a manifest", files={FILE: GOOD, "dumps/given.manifest.json": b"[]"}),
    "deep": Row(RESTORE, 2, "not a manifest", files={FILE: GOOD, "dumps/given.manifest.json": b"[" * 100_000}),
    "of another dump": manifest("given.manifest.json"),
    "of a newer version": manifest("newer", format=2),
    "without its content": manifest("content", content=...),
    "names that are numbers": manifest("outline.schemas", outline={"schemas": [1]}),
    "count without end": manifest("outline.relations", outline={"relations": 10**30}),
    "compression of another kind": manifest("lz4", file={"name": "../../x", "compression": "lz4", **SUMS}),
    "folder": Row(
        RESTORE,
        2,
        "can't be used",
        files={FILE: GOOD},
        prepare=lambda project: (project.dumps / "given.manifest.json").mkdir(),
    ),
}
PROGRAMS = {
    "no pg_dump": Row("db.dump", 3, "No pg_dump was found", env={"INVOKE_DB_BIN_DIR": "dumps"}),
    "folder of programs that is missing": Row("db.dump", 3, "/no/such/bin", env={"INVOKE_DB_BIN_DIR": "/no/such/bin"}),
    "pg_dump that is none": Row(
        "db.dump", 3, "pg_dump", env={"INVOKE_DB_BIN_DIR": "bin"}, files={"bin/pg_dump": "#!/bin/sh\necho hello\n"}
    ),
    "no pg_restore": Row(
        "db.restore --file=given.dump",
        3,
        "pg_restore",
        env={"INVOKE_DB_BIN_DIR": "dumps"},
        files={"dumps/given.dump": b"PGDMP\x01\x10\x00" + NOISE},
    ),
}
TABLES = {
    "flag": FLAGS,
    "configuration": CONFIGURATION,
    "url": URLS,
    "file": FILES,
    "manifest": MANIFESTS,
    "program": PROGRAMS,
}
ROWS = {f"{kind}: {name}": row for kind, table in TABLES.items() for name, row in table.items()}


@pytest.fixture(scope="module")
def bystander(server: Server) -> Iterator[Database]:
    """Return a database that holds something, and is the same behind every row."""
    with Databases(server) as databases:
        database = databases()
        database.execute("CREATE TABLE public.kept AS SELECT i, i::text AS t FROM generate_series(1, 100) AS i")
        yield database


def content_of(database: Database) -> list[tuple[Any, ...]]:
    """Give what would change if anything in the database did: every relation, function and row with its writer."""
    return database.execute(
        "SELECT (SELECT sum(hashtextextended(c::text || xmin::text, 0)) FROM pg_class c WHERE relkind <> 'S'),"
        " (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_namespace),"
        " (SELECT sum(hashtextextended(k::text || xmin::text, 0)) FROM public.kept k)"
    )


def lying_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Give every file below a folder with its mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts:
            mode = path.lstat().st_mode
            content = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else b""
            found[str(path.relative_to(folder))] = mode, path.read_bytes() if stat.S_ISREG(mode) else content
    return found


def test_the_table_is_long_enough() -> None:
    """Eighty rows were promised."""
    assert len(ROWS) >= 80


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_bad_input_is_a_sentence(row: Row, bystander: Database, project: Project) -> None:
    """The exit code, the sentence, no traceback, no secret, and nothing changed."""
    project.use(bystander).write("dumps/.gitignore", "*\n")
    for path, content in row.files.items():
        project.write(path, "").write_bytes(content.encode() if isinstance(content, str) else content)
    if (project.root / "bin").exists():
        (project.root / "bin" / "pg_dump").chmod(0o755)
    if row.prepare is not None:
        row.prepare(project)
    before = lying_in(project.root), content_of(bystander)
    server = bystander.server
    given = {"{address}": f"127.0.0.1:{server.port}", "{nowhere}": server.url("nowhere", SUPERUSER, PASSWORD)}
    env = dict(row.env)
    for written, meant in given.items():
        env = {name: value.replace(written, meant) for name, value in env.items()}

    result = project.inv(*row.words.split(" "), env=env, timeout=60)

    said = result.stdout + result.stderr
    assert (result.returncode, said if row.said not in result.stderr else row.said) == (row.code, row.said)
    assert "Traceback" not in said
    assert "s3cr3t" not in said
    assert "\x1b" not in said
    assert (lying_in(project.root), content_of(bystander)) == before
