"""Where a Prisma application lies, which Prisma it has, and what its migrations mean: without running it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.prisma_home import prisma_home
from tasks.dumpformat.applied_migration import AppliedMigration
from tasks.errors import BadInputError, MissingProgramError
from tasks.prisma.migrations import (
    OnDisk,
    checksums_on_disk,
    compare_migrations,
    forecast_deploy,
    migrations_on_disk,
    pending_migrations,
)
from tasks.prisma.project import (
    direct_variables,
    find_prisma,
    is_installed,
    listed_schemas,
    migrations_folder,
)
from tests.journal import install_fake

if TYPE_CHECKING:
    from pathlib import Path

DATASOURCE = 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n'
ENVIRON = {"PATH": os.environ["PATH"]}


def write(path: Path, text: str = "") -> Path:
    """Write a file and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# The folder


def test_the_root_is_home_when_it_has_a_schema(tmp_path: Path) -> None:
    """A workspace with another schema is not asked."""
    write(tmp_path / "prisma" / "schema.prisma")
    write(tmp_path / "package.json", '{"workspaces": ["apps/*"]}')
    write(tmp_path / "apps" / "web" / "package.json", "{}")
    write(tmp_path / "apps" / "web" / "prisma" / "schema.prisma")

    assert prisma_home(tmp_path, None) == tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("package.json", '{"workspaces": ["./packages/*"]}'),
        ("package.json", '{"workspaces": {"packages": ["packages/db/"]}}'),
        ("pnpm-workspace.yaml", 'packages:\n  - "packages/*"\n'),
        ("pnpm-workspace.yaml", "# all of it\ncatalog:\n  - nothing/*\npackages:\n- packages/**\n"),
    ],
    ids=["npm", "yarn", "pnpm", "pnpm without indent"],
)
@pytest.mark.parametrize(
    "mark", ["prisma/schema.prisma", "schema.prisma", "prisma.config.ts", ".config/prisma.mjs", "prisma7.config.cts"]
)
def test_a_workspace_is_home_when_it_alone_has_a_schema(tmp_path: Path, name: str, text: str, mark: str) -> None:
    """The package managers' own lists are read; what lies in node_modules does not count."""
    write(tmp_path / name, text)
    write(tmp_path / "packages" / "db" / mark)
    write(tmp_path / "packages" / "db" / "package.json", "{}")
    write(tmp_path / "packages" / "web" / "package.json", "{}")
    write(tmp_path / "packages" / "web" / "node_modules" / "x" / "schema.prisma")

    assert prisma_home(tmp_path, None) == tmp_path / "packages" / "db"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"workspaces": 7}', '{"workspaces": ["/etc", "../*", "!a", ""]}'])
def test_the_root_is_home_when_nothing_is_known(tmp_path: Path, text: str) -> None:
    """Prisma itself then says what it misses."""
    write(tmp_path / "package.json", text)
    write(tmp_path / "examples" / "x" / "prisma" / "schema.prisma")

    assert prisma_home(tmp_path, None) == tmp_path


def test_a_configured_folder_is_home_whatever_it_holds(tmp_path: Path) -> None:
    """The setting goes before everything else."""
    write(tmp_path / "prisma" / "schema.prisma")

    assert prisma_home(tmp_path, tmp_path / "other") == tmp_path / "other"


# The migrations' folder


def folder(home: Path, major: int | None = 6) -> str:
    """Tell where the migrations are looked for, below the home."""
    return str(migrations_folder(home, None, major, "").relative_to(home))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"prisma/schema.prisma": DATASOURCE}, "prisma/migrations"),
        ({"schema.prisma": DATASOURCE}, "migrations"),
        ({"schema.prisma": DATASOURCE, "prisma/schema.prisma": DATASOURCE}, "migrations"),
        ({}, "prisma/migrations"),
        ({"package.json": '{"prisma": {"schema": "db/main.prisma"}}', "db/main.prisma": DATASOURCE}, "db/migrations"),
        (
            {"package.json": '{"prisma": {"schema": "prisma"}}', "prisma/a.prisma": "", "prisma/b.prisma": DATASOURCE},
            "prisma/migrations",
        ),
        (
            {
                "package.json": '{"prisma": {"schema": "db"}}',
                "db/a.prisma": "// datasource db {",
                "db/conf/ds.prisma": DATASOURCE,
            },
            "db/conf/migrations",
        ),
    ],
    ids=["usual", "root", "both", "none", "package.json", "several files", "datasource below"],
)
def test_migrations_lie_beside_the_schema(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    """Without a configuration file: as Prisma 6 looks for them."""
    for name, text in files.items():
        write(tmp_path / name, text)

    assert folder(tmp_path) == expected


def test_prisma_7_keeps_the_migrations_in_the_schemas_folder(tmp_path: Path) -> None:
    """Where the datasource block stands no longer matters."""
    write(tmp_path / "package.json", '{"prisma": {"schema": "db"}}')
    write(tmp_path / "db" / "conf" / "ds.prisma", DATASOURCE)

    assert folder(tmp_path, 7) == "db/migrations"


def test_a_schema_lists_schemas_and_a_direct_url(tmp_path: Path) -> None:
    """Comments are no part of it."""
    text = DATASOURCE + '  // directUrl = env("OLD")\n  directUrl = env("DIRECT_URL")\n  schemas = ["base", "log"]\n}\n'
    write(tmp_path / "prisma" / "schema.prisma", text)

    assert listed_schemas(tmp_path) == ["base", "log"]
    assert direct_variables(tmp_path) == ["DIRECT_URL"]
    assert listed_schemas(tmp_path / "prisma") == ["base", "log"]
    assert listed_schemas(tmp_path / "nowhere") == []


# The program


def test_a_hoisted_prisma_is_found(tmp_path: Path) -> None:
    """Packages may lie above, up to the repository's folder, and no further."""
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    home = tmp_path / "repository" / "packages" / "db"
    home.mkdir(parents=True)
    install_fake(tmp_path, "1.0.0")
    assert not is_installed(home)

    install_fake(tmp_path / "repository", "7.10.1")
    found = find_prisma(home, ENVIRON)

    assert found.major == 7
    assert found.home == home
    assert found.deploy()[-2:] == ("migrate", "deploy")


@pytest.mark.parametrize(
    ("version", "words", "history"),
    [
        ("6.19.3", ("migrate", "deploy"), True),
        ("7.10.1", ("migrate", "deploy"), True),
        ("8.0.0-rc.19", ("db", "migrate"), False),
        ("10.1.0", ("db", "migrate"), False),
        ("", ("migrate", "deploy"), True),
    ],
)
def test_each_major_is_called_as_it_wants(
    tmp_path: Path, version: str, words: tuple[str, ...], *, history: bool
) -> None:
    """Prisma 8 has renamed the command, and keeps its history elsewhere."""
    install_fake(tmp_path, version)

    found = find_prisma(tmp_path, ENVIRON)

    assert found.deploy()[1:] == words
    assert found.knows_history == history


@pytest.mark.parametrize(
    ("file", "text", "install_words", "typed"),
    [
        ("package-lock.json", "", "npm install", "npx prisma"),
        ("pnpm-lock.yaml", "", "pnpm install", "pnpm prisma"),
        ("yarn.lock", "", "yarn install", "yarn prisma"),
        ("bun.lock", "", "bun install", "bunx prisma"),
        ("bun.lockb", "", "bun install", "bunx prisma"),
        ("package.json", '{"packageManager": "yarn@4.5.0+sha512.abc"}', "yarn install", "yarn prisma"),
        ("README", "", "npm install", "npx prisma"),
    ],
)
def test_people_are_told_what_their_package_manager_understands(
    tmp_path: Path, file: str, text: str, install_words: str, typed: str
) -> None:
    """The lock file may lie above, as in a workspace."""
    (tmp_path / ".git").mkdir()
    write(tmp_path / file, text)
    home = tmp_path / "packages" / "db"
    home.mkdir(parents=True)

    with pytest.raises(MissingProgramError, match=f"`{install_words}`"):
        find_prisma(home, ENVIRON)
    install_fake(home)
    assert find_prisma(home, ENVIRON).typed == typed


def test_yarns_plug_and_play_needs_no_folder_of_packages(tmp_path: Path) -> None:
    """Yarn runs it; without Yarn it is missing."""
    write(tmp_path / ".pnp.cjs")
    yarn = write(tmp_path / "bin" / "yarn", "#!/bin/sh\n")
    yarn.chmod(0o755)

    assert is_installed(tmp_path)
    assert find_prisma(tmp_path, {"PATH": str(yarn.parent)}).deploy() == (str(yarn), "prisma", "migrate", "deploy")
    with pytest.raises(MissingProgramError):
        find_prisma(tmp_path, {"PATH": "/nowhere"})


def test_a_configured_command_needs_no_prisma(tmp_path: Path) -> None:
    """It is split as a shell would, and run as it is."""
    found = find_prisma(tmp_path, {"PATH": "/nowhere"}, "docker compose exec app 'npx prisma' migrate deploy")

    assert found.deploy() == ("docker", "compose", "exec", "app", "npx prisma", "migrate", "deploy")
    assert not found.knows_history
    with pytest.raises(BadInputError, match="migrate_command"):
        find_prisma(tmp_path, ENVIRON, "an 'open quote")


def test_a_project_without_node_is_told_so(tmp_path: Path) -> None:
    """Prisma's program is a script for Node."""
    install_fake(tmp_path)

    with pytest.raises(MissingProgramError, match="Node"):
        find_prisma(tmp_path, {"PATH": "/nowhere"})


# On disk


def test_every_folder_is_a_migration_but_no_link(tmp_path: Path) -> None:
    """As Prisma takes them: hidden ones too, files and links not."""
    for name in ("2_b", "1_a", ".hidden"):
        write(tmp_path / name / "migration.sql", "SELECT 1;\n")
    (tmp_path / "3_empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "1_a")
    write(tmp_path / "migration_lock.toml")

    found = migrations_on_disk(tmp_path)

    assert [each.name for each in found] == [".hidden", "1_a", "2_b", "3_empty"]
    assert [bool(each.checksums) for each in found] == [True, True, True, False]
    assert migrations_on_disk(tmp_path / "nowhere") == ()


@given(st.text(alphabet="a;\n é-"))
def test_checksums_cover_line_ends(text: str) -> None:
    """However a checkout writes line ends, one of the sums is the one that Prisma noted elsewhere."""
    windows = text.replace("\n", "\r\n")

    for written in (text, windows):
        sums = checksums_on_disk(written.encode())
        for noted in (text, windows):
            assert hashlib.sha256(noted.encode()).hexdigest() in sums


# What a deploy would meet

A, B, C = (OnDisk(name, frozenset({f"sum of {name}"})) for name in ("1_a", "2_b", "3_c"))


def row(name: str, state: str = "applied", checksum: str = "") -> AppliedMigration:
    """Make a row of the history."""
    return AppliedMigration(
        name=name,
        checksum=checksum or f"sum of {name}",
        finished="2025-01-01 00:00:00+00" if state in {"applied", "baselined"} else "",
        rolled_back="2025-01-02 00:00:00+00" if state == "rolled back" else "",
        steps="0" if state == "baselined" else "1",
    )


def codes(disk: list[OnDisk], rows: list[AppliedMigration] | None, *, filled: bool = True) -> list[str]:
    """Tell what is foreseen, by code or by its first words."""
    found = forecast_deploy(disk, rows, filled=filled, prisma="npx prisma")
    return [each.code or each.what.split(":")[0] for each in found]


EDITED = "Migrations were edited after they were applied"
UNKNOWN = "The history holds migrations that this checkout does not have"


@pytest.mark.parametrize(
    ("disk", "rows", "filled", "expected", "waiting"),
    [
        ([A, B], [row("1_a"), row("2_b")], True, [], []),
        ([A, B], [row("1_a")], True, [], ["2_b"]),
        ([A, B], None, False, [], ["1_a", "2_b"]),
        ([A, B], None, True, ["P3005"], ["1_a", "2_b"]),
        ([], None, True, [], []),
        ([A], [], True, [], ["1_a"]),
        ([A, B], [row("1_a"), row("2_b", "failed")], True, ["P3009"], []),
        ([A, B], [row("1_a"), row("2_b", "rolled back")], True, [], ["2_b"]),
        ([A, B], [row("1_a"), row("2_b", "failed", checksum="before")], True, ["P3009"], []),
        ([A, B], [row("1_a"), row("2_b", "rolled back", checksum="before")], True, [], ["2_b"]),
        ([A, B], [row("1_a"), row("2_b", "rolled back"), row("2_b")], True, [], []),
        ([A, B], [row("1_a"), row("2_b"), row("2_b", "failed")], True, ["P3009"], []),
        ([A, B], [row("1_a"), row("2_b", "failed"), row("2_b")], True, ["P3009"], []),
        ([A], [row("1_a"), row("9_gone", "failed")], True, ["P3009", UNKNOWN], []),
        ([A], [row("1_a"), row("9_gone")], True, [UNKNOWN], []),
        ([A], [row("1_a"), row("9_gone", "rolled back")], True, [], []),
        ([], [row("1_a")], True, [], []),
        ([A], [row("1_a", checksum="another")], True, [EDITED], []),
        ([A], [row("1_a", "baselined", checksum="another")], True, [EDITED], []),
        ([A, OnDisk("4_d", frozenset())], [row("1_a")], True, ["P3015"], ["4_d"]),
        ([OnDisk("1_a", frozenset())], [row("1_a")], True, [], []),
    ],
)
def test_what_is_foreseen(
    disk: list[OnDisk], rows: list[AppliedMigration] | None, expected: list[str], waiting: list[str], *, filled: bool
) -> None:
    """The table of states; the real CLI agrees with each in test_migrations.py."""
    assert codes(disk, rows, filled=filled) == expected
    assert pending_migrations(disk, rows) == waiting


def test_places_stand_side_by_side() -> None:
    """Each migration once, in order, with its state in database and dump."""
    found = compare_migrations([A, C], [row("1_a"), row("2_b")], [row("1_a", checksum="x"), row("3_c", "failed")])

    assert [(each.name, each.disk, *each.states) for each in found] == [
        ("1_a", True, "applied", "applied, edited since"),
        ("2_b", False, "applied, not on disk", "absent"),
        ("3_c", True, "pending", "failed"),
    ]
