"""Builds a database with everything in it that pg_dump can write, out of `everything.sql`."""

import re
from pathlib import Path
from typing import Final

from psycopg import sql

from tests.servers import OWNER, SUPERUSER, Server
from tests.support import Database

SQL: Final = Path(__file__).with_suffix(".sql")

BEYOND_PSQL: Final = """
CREATE TABLE public.periods ("begin" integer, "case" integer, "end" integer);
CREATE FUNCTION public.beginnings() RETURNS bigint LANGUAGE sql BEGIN ATOMIC
    SELECT "begin" AS "begin" FROM public.periods WHERE "end" > 0;
    SELECT p."begin" FROM public.periods p;
END;
CREATE TABLE public.afterwards (id integer);
INSERT INTO public.afterwards VALUES (1);
"""
"""pg_dump writes the column's name without quotes in the function's body, and psql, which then waits for one
more END, reads all that follows as part of the function: it can't load such a dump."""

_SECTION: Final = re.compile(r"^--: \[(?P<conditions>.*)\] .*\n", re.MULTILINE)


def text(major: int, *, superuser: bool, setup: bool = False) -> str:
    """Return the SQL of the sections that fit.

    A section begins with a line `--: [conditions] title`. What is marked `setup` is run by a superuser in
    both variants, before the rest; `superuser` and `owner` belong to one variant only; a number is the
    first major that has it.

    :param setup: The sections that come first, instead of all others.
    """
    _, *parts = _SECTION.split(SQL.read_text(encoding="utf-8"))
    sections = zip(parts[::2], parts[1::2], strict=True)
    variant = "superuser" if superuser else "owner"

    def fits(words: list[str]) -> bool:
        numbers = [int(word) for word in words if word.isdigit()]
        variants = [word for word in words if word in {"superuser", "owner"}]
        return (
            ("setup" in words) == setup
            and all(major >= number for number in numbers)
            and (not variants or variant in variants)
        )

    return "".join(body for conditions, body in sections if fits(conditions.split()))


def build(server: Server, *, superuser: bool) -> Database:
    """Make the database with everything in it.

    :param superuser: Whether a superuser makes it, with all that only they can; else a plain owner does,
        in a database of their own in which a superuser has installed the extensions.
    """
    owner = SUPERUSER if superuser else OWNER
    database = Database(server, f"everything_of_{owner}")
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (database.name, owner))))
    database.execute(text(server.major, superuser=superuser, setup=True))
    database.execute(text(server.major, superuser=superuser), role=owner)
    return database
