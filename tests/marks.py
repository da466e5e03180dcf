"""Whether anything was committed since: what a refusal or a rollback must not do, proved without a dump."""

from dataclasses import dataclass, field

from tests.support import Connection, Database, Row


@dataclass(frozen=True)
class Mark:
    """A moment of a server, and the sequences of a database at that moment.

    What a transaction changes is in a dump as soon as it is committed. Sequences alone change without a commit.
    """

    database: Database
    snapshot: str = field(init=False)
    sequences: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        """Note the moment."""
        with self.database.connect() as connection:
            ((snapshot,),) = connection.execute("SELECT pg_current_snapshot()::text").fetchall()
            object.__setattr__(self, "snapshot", snapshot)
            object.__setattr__(self, "sequences", _sequences(connection))

    def is_untouched(self) -> bool:
        """Return whether no transaction was committed on the server since, and each sequence is as it was.

        A dump would then be the same as before, and so would all that a dump does not show.
        """
        with self.database.connect() as connection:
            committed = connection.execute(
                "SELECT FROM (SELECT %s::pg_snapshot AS before, pg_current_snapshot() AS present) AS s,"
                " generate_series(pg_snapshot_xmin(before)::text::bigint,"
                " pg_snapshot_xmax(present)::text::bigint - 1) AS n, CAST(n::text AS xid8) AS x"
                " WHERE NOT pg_visible_in_snapshot(x, before) AND pg_xact_status(x) = 'committed'",
                [self.snapshot],
            ).fetchall()
            return not committed and _sequences(connection) == self.sequences


def _sequences(connection: Connection) -> list[Row]:
    names = connection.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' ORDER BY oid").fetchall()
    query = " UNION ALL ".join(f"SELECT last_value, is_called FROM {name}" for (name,) in names)
    return connection.execute(query.encode()).fetchall() if query else []
