"""A manifest with something in each of its fields."""

from tasks.dumpformat.compression import Compression, Sums
from tasks.dumpformat.manifest import Manifest, Outline, SequenceValue, TableRows

MANIFEST = Manifest(
    created="2025-12-21T10:30:45.123Z",
    note='before the "billing" migration\nünïcödé 🐘',
    git={"commit": "a" * 40, "dirty": True},
    source={"host": "localhost", "port": 5432, "database": "shop", "server_version": "17.6"},
    pg_dump={"version": "17.6", "options": ["--clean", "--if-exists"]},
    file_name="db_dump_2025-12-21T10-30-45-123Z.sql.gz",
    compression=Compression.GZIP,
    file=Sums(1234, "b" * 64),
    content=Sums(98765432109876, "c" * 64),
    tables=(TableRows("public", "User", 20), TableRows("two\nlines", 'a "b".c', 0)),
    excluded_data=(("public", "log"), ("a.b", 'c."d')),
    sequences=(SequenceValue("public", "s", -9223372036854775808, is_called=False),),
    outline=Outline(schemas=("public",), relations=3, roles=("owner",), creates_tables=False),
    seconds=1.25,
    facts={"indexes": 4},
)
