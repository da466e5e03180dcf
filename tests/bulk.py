"""Makes the database of a plausible application, as large as a test or a measurement wants it."""

from typing import Final

from tests.support import Database

_SCHEMA: Final = """
CREATE TYPE public."EntryKind" AS ENUM ('NOTE', 'TASK', 'PHOTO', 'MOOD');
CREATE TABLE public."User" (
    id integer PRIMARY KEY,
    email text NOT NULL,
    name text,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL
);
CREATE TABLE public."Entry" (
    id bigserial NOT NULL,
    "userId" integer NOT NULL,
    kind public."EntryKind" DEFAULT 'NOTE'::public."EntryKind" NOT NULL,
    title text NOT NULL,
    body text,
    tags text[] DEFAULT ARRAY[]::text[] NOT NULL,
    "createdAt" timestamp(3) without time zone NOT NULL
);
CREATE TABLE public."Event" (
    id bigserial NOT NULL,
    "userId" integer NOT NULL,
    "entryId" bigint,
    type text NOT NULL,
    payload jsonb NOT NULL,
    at timestamp with time zone NOT NULL
);
"""

_ROWS: Final = """
INSERT INTO public."User"
SELECT i, 'user' || i || '@example.com', CASE WHEN i % 7 > 0 THEN initcap(substr(md5(i::text), 1, 8)) END,
    jsonb_build_object('theme', (ARRAY['dark', 'light'])[1 + i % 2], 'limit', i % 100),
    timestamp '2024-01-01' + i * interval '7 minutes'
FROM generate_series(1, {users}) i;
INSERT INTO public."Entry" ("userId", kind, title, body, tags, "createdAt")
SELECT 1 + (i * 7919) % {users}, (enum_range(NULL::public."EntryKind"))[1 + i % 4],
    'Entry ' || i || ': ' || md5(i::text),
    CASE WHEN i % 11 > 0 THEN repeat(md5((i + 1)::text) || E' and\\n', (1 + i % 7)::integer) END,
    ARRAY['tag' || i % 50, 'tag' || i % 7], timestamp '2024-01-01' + i * interval '11 seconds'
FROM generate_series(1::bigint, {entries}) i;
INSERT INTO public."Event" ("userId", "entryId", type, payload, at)
SELECT 1 + (i * 104729) % {users}, CASE WHEN i % 3 > 0 THEN 1 + (i * 31) % {entries} END,
    (ARRAY['view', 'edit', 'share', 'login'])[1 + i % 4],
    jsonb_build_object('agent', md5((i % 1000)::text), 'ms', i % 5000, 'path', '/entries/' || i % 9999),
    timestamptz '2024-01-01 00:00+00' + i * interval '3 seconds'
FROM generate_series(1::bigint, {events}) i;
"""

_AFTERWARDS: Final = """
ALTER TABLE public."Entry" ADD PRIMARY KEY (id);
ALTER TABLE public."Event" ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX "User_email_key" ON public."User" (email);
CREATE INDEX "Entry_userId_createdAt_idx" ON public."Entry" ("userId", "createdAt" DESC);
CREATE INDEX "Event_userId_at_idx" ON public."Event" ("userId", at);
CREATE INDEX "Event_entryId_idx" ON public."Event" ("entryId");
ALTER TABLE public."Entry" ADD CONSTRAINT "Entry_userId_fkey"
    FOREIGN KEY ("userId") REFERENCES public."User" (id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE public."Event" ADD CONSTRAINT "Event_userId_fkey"
    FOREIGN KEY ("userId") REFERENCES public."User" (id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE public."Event" ADD CONSTRAINT "Event_entryId_fkey"
    FOREIGN KEY ("entryId") REFERENCES public."Entry" (id) ON UPDATE CASCADE ON DELETE SET NULL;
ANALYZE;
"""


def journal_like(database: Database, rows: int, *, role: str = "postgres") -> dict[str, int]:
    """Fill an empty database with users, their journal's entries and their events.

    Every value follows from its row's number: two databases of one size are equal. Two million rows take
    about 500 MB in the server, indexes and all.

    :param rows: How many in all; at least 50.
    :param role: Who owns the tables.
    :return: The rows of each table of schema `public`.
    """
    assert rows >= 50
    users, entries = rows // 50, rows // 4
    events = rows - users - entries
    counts = {"users": users, "entries": entries, "events": events}
    for script in (_SCHEMA, _ROWS.format_map(counts), _AFTERWARDS):
        database.execute(script, role)
    return {"User": users, "Entry": entries, "Event": events}
