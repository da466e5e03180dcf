"""The example application is what its README and the other tests take it for."""

import re
from pathlib import Path

import pytest

JOURNAL = Path(__file__).parent.parent / "examples" / "journal"
MIGRATIONS = sorted(JOURNAL.glob("prisma/migrations/*/migration.sql"))
PENDING = sorted(JOURNAL.glob("pending/*/migration.sql"))
GENERATOR = JOURNAL / "generate.sql"

MODELS = {
    "AuthIdentity",
    "CollectorRun",
    "ConnectedAccount",
    "Cursor",
    "Day",
    "DayEvent",
    "EmailBookmarkSettings",
    "Event",
    "EventEnrichment",
    "Goal",
    "GoogleTimelineSettings",
    "JournalEntry",
    "JournalLog",
    "OAuthToken",
    "TrelloSettings",
    "User",
    "UserEmailDelivery",
}


def without_comments(sql: str) -> str:
    """Drop whole-line comments, which may talk about what must not be used."""
    return "\n".join(line for line in sql.splitlines() if not line.startswith("--"))


def migrated_sql() -> str:
    """Return all migrations that are in place, without their comments."""
    return "\n".join(without_comments(path.read_text(encoding="utf-8")) for path in MIGRATIONS)


def test_schema_has_the_seventeen_models() -> None:
    """The schema file holds exactly the models that the tests count on."""
    schema = (JOURNAL / "prisma" / "schema.prisma").read_text(encoding="utf-8")

    found = re.findall(r"^model (\w+) \{", schema, re.MULTILINE)

    assert len(found) == 17
    assert set(found) == MODELS


def test_migrations_create_every_model() -> None:
    """No model is without a table, and no table without a model."""
    created = re.findall(r'^CREATE TABLE "(\w+)"', migrated_sql(), re.MULTILINE)

    assert sorted(created) == sorted(MODELS)


def test_migrations_create_many_indexes() -> None:
    """There are 24 indexes or more, primary keys aside, and some are unique."""
    indexes = re.findall(r'^CREATE (UNIQUE )?INDEX "(\w+)"', migrated_sql(), re.MULTILINE)

    assert len(indexes) >= 24
    assert len({name for _, name in indexes}) == len(indexes)
    assert sum(bool(unique) for unique, _ in indexes) >= 5


@pytest.mark.parametrize("action", ["CASCADE", "RESTRICT", "SET NULL"])
def test_foreign_keys_use_every_action(action: str) -> None:
    """Deleting a row can take others along, be refused, or leave a NULL."""
    assert f"ON DELETE {action}" in migrated_sql()


def test_migrations_are_named_in_their_order() -> None:
    """Three migrations or more, named as Prisma names them, lead to the present schema."""
    names = [path.parent.name for path in MIGRATIONS]

    assert len(names) >= 3
    assert all(re.fullmatch(r"\d{14}_[a-z_]+", name) for name in names)
    assert 'provider = "postgresql"' in (JOURNAL / "prisma/migrations/migration_lock.toml").read_text("utf-8")


def test_pending_migration_comes_last_and_is_kept_apart() -> None:
    """The migration for the demo is younger than all others and not in their folder."""
    (pending,) = PENDING

    assert pending.parent.name > MIGRATIONS[-1].parent.name
    assert not (JOURNAL / "prisma" / "migrations" / pending.parent.name).exists()
    assert "mood" in pending.read_text(encoding="utf-8")


def test_generator_fills_every_table() -> None:
    """Each model has its INSERT, once."""
    inserted = re.findall(r'^INSERT INTO "(\w+)"', GENERATOR.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(inserted) == sorted(MODELS)


def test_generator_runs_by_any_client() -> None:
    """No line is a command of psql's own, and no transaction is begun or ended."""
    sql = without_comments(GENERATOR.read_text(encoding="utf-8"))

    assert not re.search(r"^\s*\\", sql, re.MULTILINE)
    assert not re.search(r"\\(gexec|gset|copy|set)\b", sql)
    assert not re.search(r"^\s*(BEGIN|COMMIT|ROLLBACK|START TRANSACTION)\b", sql, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize(
    "word",
    [
        r"random\w*\(",
        r"gen_random_uuid\(",
        r"now\(",
        r"clock_timestamp\(",
        r"statement_timestamp\(",
        r"current_(date|time|timestamp)\b",
        r"localtime(stamp)?\b",
        r"CREATE EXTENSION",
    ],
)
def test_generator_gives_the_same_rows_each_time(word: str) -> None:
    """Nothing is drawn by lot, read from a clock, or left to an extension."""
    sql = without_comments(GENERATOR.read_text(encoding="utf-8"))

    assert not re.search(word, sql, re.IGNORECASE)


def test_packages_are_pinned_without_a_lock_file() -> None:
    """Every version is exact, and nothing records where a package came from."""
    package = (JOURNAL / "package.json").read_text(encoding="utf-8")
    _, _, dependencies = package.partition('"dependencies"')

    versions = re.findall(r'"[^"]+": "([^"]+)"', dependencies)

    assert versions
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert not (JOURNAL / "package-lock.json").exists()
    assert "package-lock=false" in (JOURNAL / ".npmrc").read_text(encoding="utf-8")
