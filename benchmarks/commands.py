"""What is measured: every command as one would type it, ours and the others'."""

from __future__ import annotations

from dataclasses import dataclass, replace

FILLED = "over a filled database"
EMPTY = "into an empty database"
CHEAP = 7


@dataclass(frozen=True)
class Case:
    """One command on one database.

    :ivar kind: `dump`, `restore`, `verify`, `gzip` or `list`: what it is compared within.
    :ivar slug: Its name in the results, which `--only` looks at.
    :ivar command: What is typed; for a shell, unless it is ours.
    :ivar inputs: Files of :data:`INPUTS` that lie there before it starts.
    :ivar target: For a restore: :data:`FILLED` or :data:`EMPTY`, the state of the database before it.
    :ivar reference: The one that the others of its kind are compared with.
    :ivar compresses: It is a pg_dump with compression, and counts as a peer of `db.dump --gzip`.
    :ivar repeats: Times that it is measured in each round.
    :ivar status: The exit status that it must have.
    :ivar throttled: Each of its threads gets a fifth of a processor (:mod:`.throttle`).
    :ivar before: A command that is run before it, unmeasured.
    :ivar program: A program that must be installed; without it the command is left out.
    """

    kind: str
    slug: str
    command: str
    inputs: tuple[str, ...] = ()
    target: str = ""
    reference: bool = False
    compresses: bool = False
    repeats: int = 1
    status: int = 0
    throttled: bool = False
    before: str = ""
    program: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is one of ours, and so started without a shell."""
        return self.command.startswith("inv ")

    @property
    def shown(self) -> str:
        """The command, and for a restore what it meets."""
        return f"{self.command} ({self.target})" if self.target else self.command


# How the files come about that restores begin with; ours get their manifest beside them.
INPUTS = {
    "f.sql.gz": "pg_dump | gzip > f.sql.gz",
    "f.dump": "pg_dump -Fc -f f.dump",
    "f.dir": "pg_dump -Fd -j2 -Z zstd:1 -f f.dir",
    "inserts.sql.gz": "pg_dump --inserts | gzip > inserts.sql.gz",
    "ours.sql": "inv db.dump --file=dumps/ours.sql",
    "ours.sql.gz": "inv db.dump --file=dumps/ours.sql.gz",
    "ours.sql.zst": "inv db.dump --file=dumps/ours.sql.zst",
}

# The dump is of another database than `target`.
_CLEAN = "inv db.restore --clean --yes --confirm=target --method=transaction"
_OURS_DUMP = Case("dump", "dump-ours-gzip", "inv db.dump --gzip", reference=True)
_OURS_ZSTD = Case("dump", "dump-ours-zstd", "inv db.dump --zstd")
_THEN_GZIP = Case("dump", "dump-then-gzip", "pg_dump > f.sql && gzip f.sql")
_CUSTOM_Z1 = Case("dump", "dump-custom-z1", "pg_dump -Fc -Z1 -f f.dump", compresses=True)
_DIRECTORY = Case("dump", "dump-directory", "pg_dump -Fd -j2 -Z zstd:1 -f f.dir", compresses=True)
_DUMPS = (
    _OURS_DUMP,
    _OURS_ZSTD,
    Case("dump", "dump-ours-plain", "inv db.dump"),
    Case("dump", "dump-ours-checksums", "inv db.dump --gzip --checksums"),
    Case("dump", "dump-discard", "pg_dump > /dev/null"),
    Case("dump", "dump-plain", "pg_dump > f.sql"),
    _THEN_GZIP,
    Case("dump", "dump-pipe-gzip", "pg_dump | gzip > f.sql.gz", compresses=True),
    Case("dump", "dump-plain-zstd", "pg_dump -Z zstd:1 -f f.sql.zst", compresses=True),
    Case("dump", "dump-custom", "pg_dump -Fc -f f.dump", compresses=True),
    _CUSTOM_Z1,
    Case("dump", "dump-custom-zstd", "pg_dump -Fc -Z zstd:1 -f f.dump", compresses=True),
    _DIRECTORY,
    Case("dump", "dump-dbbackup", "python -m benchmarks.dbbackup default f.psql.bin"),
    Case("dump", "dump-dbbackup-compress", "python -m benchmarks.dbbackup compress f.psql.gz"),
)


def _restore(slug: str, command: str, file: str, target: str = EMPTY) -> Case:
    return Case("restore", slug, command, inputs=(file,), target=target)


_OURS_RESTORE = replace(
    _restore("restore-ours", f"{_CLEAN} --no-backup --file=ours.sql.gz", "ours.sql.gz", FILLED), reference=True
)
_OURS_EMPTY = _restore("restore-ours-empty", f"{_CLEAN} --no-backup --file=ours.sql.gz", "ours.sql.gz")
_SWAP = "inv db.restore --clean --yes --confirm=target --disconnect --method=swap"
_OURS_SWAP = _restore("restore-ours-swap", f"{_SWAP} --jobs=2 --file=ours.sql.zst", "ours.sql.zst", FILLED)
_OURS_SWAP_1 = _restore("restore-ours-swap-one", f"{_SWAP} --jobs=1 --file=ours.sql.zst", "ours.sql.zst", FILLED)
_ANALYZED_J2 = _restore(
    "restore-directory-j2-analyzed",
    "pg_restore -j2 -d target f.dir && vacuumdb -q --analyze-only -j2 target",
    "f.dir",
)
_PIPE_PSQL = _restore("restore-pipe-psql", "gunzip -c f.sql.gz | psql -q", "f.sql.gz")
# Not from a dump: the server copies the files of a snapshot, which is a database of the same server.
_DSLR = replace(
    _restore("restore-dslr", "dslr restore ours", "f.sql.gz", FILLED),
    inputs=(),
    before="dslr snapshot ours",
    program="dslr",
)
_DIRECTORY_J2 = _restore("restore-directory-j2", "pg_restore -j2 -d target f.dir", "f.dir")
_RESTORES = (
    _OURS_RESTORE,
    _OURS_EMPTY,
    _restore("restore-ours-zstd", f"{_CLEAN} --no-backup --file=ours.sql.zst", "ours.sql.zst", FILLED),
    _restore("restore-ours-backup", f"{_CLEAN} --file=ours.sql.gz", "ours.sql.gz", FILLED),
    _restore("restore-gunzip-psql", "gunzip f.sql.gz && psql -q -f f.sql", "f.sql.gz"),
    _PIPE_PSQL,
    _restore("restore-pipe-psql-1", "gunzip -c f.sql.gz | psql -q -1", "f.sql.gz"),
    _restore("restore-custom", "pg_restore -d target f.dump", "f.dump"),
    _restore("restore-custom-j2", "pg_restore -j2 -d target f.dump", "f.dump"),
    _DIRECTORY_J2,
    _OURS_SWAP,
    _OURS_SWAP_1,
    _ANALYZED_J2,
    _DSLR,
)


def _throttled(kind: str, slug: str, command: str, file: str = "", target: str = "") -> Case:
    inputs = (file,) if file else ()
    return Case(f"{kind}, throttled", f"throttled-{slug}", command, inputs=inputs, target=target, throttled=True)


_THROTTLED_RESTORES = (
    replace(
        _throttled("restore", "ours-swap-4", f"{_SWAP} --jobs=4 --file=ours.sql.zst", "ours.sql.zst", FILLED),
        reference=True,
    ),
    _throttled("restore", "directory-j4", "pg_restore -j4 -d target f.dir", "f.dir", EMPTY),
)
_THROTTLED = (
    *_THROTTLED_RESTORES,
    replace(_throttled("dump", "ours-zstd", "inv db.dump --zstd"), reference=True),
    _throttled("dump", "directory", "pg_dump -Fd -j2 -Z zstd:1 -f f.dir"),
)
_SHORT = (
    *(_OURS_DUMP, _OURS_ZSTD, _THEN_GZIP, _CUSTOM_Z1, _DIRECTORY),
    *(_OURS_RESTORE, _OURS_EMPTY, _PIPE_PSQL, _DIRECTORY_J2),
)
_INSERTS = (
    replace(_restore("restore-ours", f"{_CLEAN} --no-backup --file=inserts.sql.gz", "inserts.sql.gz"), reference=True),
    _restore("restore-pipe-psql", "gunzip -c inserts.sql.gz | psql -q", "inserts.sql.gz"),
    _restore("restore-pipe-psql-1", "gunzip -c inserts.sql.gz | psql -q -1", "inserts.sql.gz"),
)
_NOTHING = (
    Case("dump", "dump-ours-plain", "inv db.dump", reference=True, repeats=CHEAP),
    Case("dump", "dump-plain", "pg_dump > f.sql", repeats=CHEAP),
    Case("list", "list-ours", "inv --list", reference=True, repeats=2 * CHEAP),
    # Invoke itself says that there are no tasks, and ends with 1.
    Case("list", "list-none", "inv --search-root=none --list", repeats=2 * CHEAP, status=1),
)
CASES: dict[str, tuple[Case, ...]] = {
    "journal": (
        *_DUMPS,
        *_RESTORES,
        *_THROTTLED,
        Case("verify", "verify-ours", "inv db.verify --file=ours.sql.gz", inputs=("ours.sql.gz",), reference=True),
        Case("gzip", "gzip-ours", "inv db.gzip --file=ours.sql", inputs=("ours.sql",), reference=True),
    ),
    "tenth": (_OURS_DUMP, _OURS_RESTORE),
    "many": _SHORT,
    "huge": (*_SHORT, *_THROTTLED_RESTORES),
    "wide": _SHORT,
    "inserts": _INSERTS,
    "empty": _NOTHING,
}


def chosen(database: str, only: tuple[str, ...]) -> tuple[Case, ...]:
    """Choose the commands of a database.

    :param only: Words, of which a command's slug must hold one; none for all.
    """
    return tuple(case for case in CASES[database] if not only or any(word in case.slug for word in only))
