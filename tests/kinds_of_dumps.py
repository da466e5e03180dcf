"""The kinds of dumps that people have, as small texts in the form of each tool; docs/dumps.md says what happens."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.flows import dump_of, pg_dump
from tests.servers import MAJORS, provision
from tests.support import Database

SOURCE = """
CREATE TABLE public."User" (id int PRIMARY KEY, email text UNIQUE);
CREATE TABLE public."Post" (id serial PRIMARY KEY, author int REFERENCES public."User", title text);
INSERT INTO public."User" VALUES (1, 'a@example.org'), (2, 'b@example.org');
INSERT INTO public."Post" (author, title) VALUES (1, 'first');
"""
HEAD = (
    "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET client_encoding = 'UTF8';\n"
    "SET standard_conforming_strings = on;\nSET check_function_bodies = false;\nSET client_min_messages = warning;\n"
)
PATH = "SELECT pg_catalog.set_config('search_path', '', false);"
OLD = HEAD + (
    "CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;\n"
    "COMMENT ON EXTENSION plpgsql IS 'PL/pgSQL procedural language';\n"
    "SET search_path = public, pg_catalog;\nSET default_tablespace = '';\nSET default_with_oids = false;\n"
    "CREATE TABLE users (id integer NOT NULL, email text);\nALTER TABLE users OWNER TO deploy;\n"
    "COPY users (id, email) FROM stdin;\n1\ta\n2\tb\n\\.\n\n"
    "ALTER TABLE ONLY users ADD CONSTRAINT users_pkey PRIMARY KEY (id);\n"
    "REVOKE ALL ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO PUBLIC;"
)
NEWER = HEAD + PATH + "\nSET xmloption = content;\nSET default_table_access_method = heap;\n"
USERS = "CREATE TABLE public.users (id integer NOT NULL, email text);\n"
ROWS = "COPY public.users (id, email) FROM stdin;\n1\ta\n2\tb\n\\.\n"
SUPABASE = (
    'CREATE EXTENSION IF NOT EXISTS "pg_graphql" WITH SCHEMA "graphql";\n'
    'CREATE EXTENSION IF NOT EXISTS "pgcrypto" WITH SCHEMA "extensions";\n'
    'CREATE TABLE IF NOT EXISTS "public"."users" ("id" integer);\nALTER TABLE "public"."users" OWNER TO "supabase";\n'
    'CREATE POLICY "p" ON "public"."users" TO "authenticated" USING (true);\n'
    'GRANT ALL ON TABLE "public"."users" TO "anon";\nRESET ALL;'
)


@dataclass(frozen=True)
class Kind:
    """A kind of dump.

    :ivar title: As in the docs.
    :ivar text: Makes it, of a database that holds :data:`SOURCE`.
    :ivar over: Whether the target holds the source's tables, without their rows.
    """

    title: str
    text: Callable[[Database], bytes]
    over: bool = False


def _fixed(title: str, *statements: str) -> Kind:
    return Kind(title, lambda _: dump_of(*statements))


def _dumped(title: str, *options: str, over: bool = False) -> Kind:
    return Kind(title, lambda source: pg_dump(source, *options), over=over)


def _archive(source: Database, major: int) -> bytes:
    argv = [str(provision(major) / "pg_dump"), "--format=custom"]
    argv.append(f"--dbname={source.server.conninfo(source.name)}")
    return subprocess.run(argv, capture_output=True, check=True).stdout


KINDS = (
    _dumped("pg_dump of the server's own major (14 to 18)"),
    _dumped("`--clean --if-exists`", "--clean", "--if-exists"),
    _dumped("`--clean`", "--clean"),
    _dumped("`--inserts`", "--inserts"),
    _dumped("`--column-inserts --rows-per-insert=100`", "--column-inserts", "--rows-per-insert=100"),
    _dumped("`--schema-only`", "--schema-only"),
    _dumped("`--data-only`, into tables that are there", "--data-only", over=True),
    _dumped("`--data-only`, into an empty database", "--data-only"),
    _dumped("`--table`", '--table=public."User"'),
    _dumped("`--create`", "--create"),
    _dumped("`--use-set-session-authorization`", "--use-set-session-authorization"),
    _dumped("`--encoding=LATIN1`", "--encoding=LATIN1"),
    _fixed("pg_dump 9.0 to 10.2 (names without schemas)", OLD),
    _fixed("pg_dump 10.3 to 11", HEAD + PATH, "SET default_with_oids = false;", USERS, ROWS),
    _fixed("pg_dump 12 and 13", NEWER, USERS, ROWS),
    _fixed(
        "Rails' structure.sql",
        NEWER,
        USERS,
        "CREATE TABLE public.schema_migrations (version varchar NOT NULL);",
        "-- PostgreSQL database dump complete\n",
        'SET search_path TO "$user", public;',
        "INSERT INTO \"schema_migrations\" (version) VALUES\n('20240101000000');",
    ),
    _fixed(
        "Ecto's structure.sql",
        NEWER,
        "CREATE TABLE public.schema_migrations (version bigint NOT NULL);",
        "-- PostgreSQL database dump complete\n",
        'INSERT INTO public."schema_migrations" (version) VALUES (20240101000000);',
    ),
    _fixed("Django's sqlmigrate, wrapped in BEGIN and COMMIT", "BEGIN;", USERS, "COMMIT;"),
    _fixed("Hasura (`pg_dump` by its API)", "SET check_function_bodies = false;", USERS),
    _fixed("Supabase CLI", NEWER, SUPABASE),
    Kind("custom archive (`-Fc`), as Heroku gives it", lambda source: _archive(source, source.server.major)),
    Kind("custom archive of the newest pg_dump", lambda source: _archive(source, MAJORS[-1])),
    _fixed("written by hand, without a search_path", "CREATE TABLE users (id int);\nINSERT INTO users VALUES (1);"),
    Kind("edited by hand: the last line is gone", lambda source: pg_dump(source).replace(b"dump complete", b"")),
    Kind(
        "two dumps, one behind the other",
        lambda source: pg_dump(source) + dump_of(NEWER, "CREATE TABLE public.other (id int);"),
    ),
    Kind("pg_dumpall", lambda _: dump_of("CREATE ROLE deploy;", "\\connect shop", USERS)),
)
