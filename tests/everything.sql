--: [setup] roles; they belong to the whole server, so they may be there
DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['reader', 'Rôle with "quotes", dots. and blanks'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I', name);
        END IF;
    END LOOP;
END
$do$;

--: [setup] extensions, in public and outside
CREATE SCHEMA ext AUTHORIZATION owner;
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION pgcrypto SCHEMA public;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION pg_trgm SCHEMA ext;
CREATE EXTENSION btree_gist SCHEMA ext;

--: [setup superuser] extensions that a superuser wants
CREATE EXTENSION postgres_fdw SCHEMA ext;
CREATE EXTENSION file_fdw SCHEMA public;
COMMENT ON EXTENSION citext IS 'a comment that is not the extension''s own';
REVOKE EXECUTE ON FUNCTION public.gen_salt(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.gen_salt(text) TO reader;

--: [] schemas
CREATE SCHEMA app;
CREATE SCHEMA "Odd Schema.with ""quotes"" and . dots";
CREATE SCHEMA "two
COMMIT;
lines";
CREATE SCHEMA empty;
COMMENT ON SCHEMA app IS 'It''s the application''s
-- PostgreSQL database dump complete
\.
COMMIT;';
GRANT USAGE ON SCHEMA app TO reader;
GRANT ALL ON SCHEMA app TO "Rôle with ""quotes"", dots. and blanks" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT USAGE, SELECT ON SEQUENCES TO reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO "Rôle with ""quotes"", dots. and blanks";
ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO reader;

--: [superuser] the schema public, changed
GRANT CREATE ON SCHEMA public TO owner;
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO reader, owner;
COMMENT ON SCHEMA public IS 'public, with a comment of ours';
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT INSERT ON TABLES TO reader;

--: [] types
CREATE TYPE public."Role" AS ENUM ('USER', 'ADMIN');
CREATE TYPE app.mood AS ENUM ('sad', 'it''s "fine"', '', 'COMMIT;
\.
COPY public.t FROM stdin;', '\restrict x', 'ünïcödé 表 🐘', '$$');
COMMENT ON TYPE app.mood IS '\unrestrict x';
CREATE DOMAIN app.positive AS integer DEFAULT 1 NOT NULL CONSTRAINT "above; zero" CHECK (VALUE > 0);
ALTER DOMAIN app.positive ADD CONSTRAINT small CHECK (VALUE < 1000000) NOT VALID;
COMMENT ON CONSTRAINT "above; zero" ON DOMAIN app.positive IS 'no; zero';
CREATE DOMAIN app.email AS public.citext COLLATE "C" CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE TYPE app.address AS (street text, "Odd;Column" app.mood, zip character(5), "end" integer[]);
COMMENT ON COLUMN app.address."Odd;Column" IS 'of a composite';
CREATE TYPE app.span AS RANGE (subtype = double precision, subtype_diff = float8mi, multirange_type_name = app.spans);
CREATE COLLATION app."Posix collation" (locale = 'POSIX');
COMMENT ON COLLATION app."Posix collation" IS 'byte by byte';
CREATE CONVERSION app.latin1_to_utf8 FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
GRANT USAGE ON TYPE app.mood TO reader;
REVOKE ALL ON TYPE app.span FROM PUBLIC;

--: [superuser] a base type, which begins as a shell
CREATE TYPE app.never_filled;
CREATE TYPE app.celsius;
CREATE FUNCTION app.celsius_in(cstring) RETURNS app.celsius LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION app.celsius_out(app.celsius) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE app.celsius (INPUT = app.celsius_in, OUTPUT = app.celsius_out, LIKE = integer, CATEGORY = 'N');
CREATE CAST (app.celsius AS integer) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (integer AS app.celsius) WITHOUT FUNCTION;
CREATE TABLE app.weather (at date PRIMARY KEY, temperature app.celsius);
INSERT INTO app.weather VALUES ('2025-01-01', '-3'), ('2025-07-01', '31'), ('2025-10-01', NULL);

--: [] functions
CREATE FUNCTION app.tricky_lines() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
    RETURN $x$
COMMIT;
BEGIN;
\restrict x
\unrestrict x
COPY public.t FROM stdin;
1	2
\.
--
-- PostgreSQL database dump complete
--
SET transaction_timeout = 0;
SELECT pg_catalog.setval('public.s', 999, true);
\connect template1
\! true
$x$ || '$_$ $$ "';
END
$body$;
COMMENT ON FUNCTION app.tricky_lines() IS 'a comment
COMMIT;
COPY public.t FROM stdin;
\.
-- PostgreSQL database dump complete
SET transaction_timeout = 0;
\restrict abc';
CREATE PROCEDURE app.commits(INOUT rounds integer DEFAULT 1) LANGUAGE plpgsql AS $$
BEGIN
FOR i IN 1..rounds LOOP
COMMIT;
ROLLBACK;
END LOOP;
END;
$$;
CREATE FUNCTION app."odd ""function"";"(a integer, b text DEFAULT 'x;y', VARIADIC "rest;" text[] DEFAULT '{}')
    RETURNS TABLE (n integer, t text) LANGUAGE sql STABLE PARALLEL SAFE COST 7 ROWS 3
    SET search_path TO app, pg_temp SET work_mem TO '1MB' AS 'SELECT a, b; -- '';
SELECT a, b || $q$ $q$';
CREATE FUNCTION app.classify(n integer) RETURNS text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 'first; END;' AS first;
    SELECT CASE WHEN n < 0 THEN 'negative; END' WHEN n = 0 THEN 'zero'
        ELSE CASE n WHEN 1 THEN 'one' ELSE 'COMMIT;' END END AS "end";
END;
CREATE FUNCTION app.twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN n * 2;
CREATE FUNCTION app.owner_only() RETURNS integer LANGUAGE sql SECURITY DEFINER STRICT AS 'SELECT 1';
REVOKE ALL ON FUNCTION app.owner_only() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.owner_only() TO reader;
CREATE FUNCTION app.polymorphic(anyelement, OUT one anyelement, OUT many anyarray) LANGUAGE sql
    AS 'SELECT $1, ARRAY[$1]';
CREATE FUNCTION app.mood_length(app.mood) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
    AS 'SELECT length($1::text)';
CREATE CAST (app.mood AS integer) WITH FUNCTION app.mood_length(app.mood) AS ASSIGNMENT;
COMMENT ON CAST (app.mood AS integer) IS 'its length; not its place';
CREATE FUNCTION app.add_up(bigint, integer) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS 'SELECT coalesce($1, 0) + coalesce($2, 0)';
CREATE AGGREGATE app.total(integer) (SFUNC = app.add_up, STYPE = bigint, INITCOND = '0', COMBINEFUNC = int8pl, PARALLEL = safe);
COMMENT ON AGGREGATE app.total(integer) IS 'a sum; again';
CREATE FUNCTION app.address_less(app.address, app.address) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS 'SELECT $1.street < $2.street';
CREATE OPERATOR app.<<< (LEFTARG = app.address, RIGHTARG = app.address, FUNCTION = app.address_less, COMMUTATOR = OPERATOR(app.>>>));
CREATE FUNCTION app.address_greater(app.address, app.address) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS 'SELECT $1.street > $2.street';
CREATE OPERATOR app.>>> (LEFTARG = app.address, RIGHTARG = app.address, FUNCTION = app.address_greater, COMMUTATOR = OPERATOR(app.<<<));
COMMENT ON OPERATOR app.<<< (app.address, app.address) IS 'by street';

--: [superuser] what only a superuser may make
CREATE AGGREGATE app."my median"(double precision ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION app.reversed(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE
    AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR FAMILY app."odd family" USING btree;
CREATE OPERATOR CLASS app.int_reversed FOR TYPE integer USING btree FAMILY app."odd family" AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 app.reversed(integer, integer);
COMMENT ON OPERATOR CLASS app.int_reversed USING btree IS 'backwards';
CREATE OPERATOR CLASS app.int_hash FOR TYPE integer USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(integer);
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE ACCESS METHOD second_heap TYPE TABLE HANDLER heap_tableam_handler;
COMMENT ON ACCESS METHOD second_heap IS 'a heap';
CREATE TABLE app.on_second_heap (id integer PRIMARY KEY) USING second_heap;
INSERT INTO app.on_second_heap SELECT generate_series(1, 5);
CREATE TEXT SEARCH PARSER app.parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE app.template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY app.of_template (TEMPLATE = app.template);
CREATE TEXT SEARCH CONFIGURATION app.of_parser (PARSER = app.parser);
ALTER TEXT SEARCH CONFIGURATION app.of_parser ADD MAPPING FOR asciiword WITH app.of_template;
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER "watch; ddl" ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION app.on_ddl();
CREATE EVENT TRIGGER watch_drops ON sql_drop EXECUTE FUNCTION app.on_ddl();
ALTER EVENT TRIGGER watch_drops ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER watch_drops IS 'COMMIT;';

--: [] text search
CREATE TEXT SEARCH DICTIONARY app."Dictionary" (TEMPLATE = snowball, LANGUAGE = 'english', STOPWORDS = 'english');
CREATE TEXT SEARCH CONFIGURATION app.english (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION app.english ALTER MAPPING FOR asciiword WITH app."Dictionary", simple;
COMMENT ON TEXT SEARCH CONFIGURATION app.english IS 'of the application';

--: [] Prisma's tables
CREATE TABLE public._prisma_migrations (
    id character varying(36) PRIMARY KEY,
    checksum character varying(64) NOT NULL,
    finished_at timestamp with time zone,
    migration_name character varying(255) NOT NULL,
    logs text,
    rolled_back_at timestamp with time zone,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    applied_steps_count integer DEFAULT 0 NOT NULL
);
INSERT INTO public._prisma_migrations VALUES
    ('7d4a1c1e-9d7a-4d67-8b0f-000000000001', repeat('a1', 32), '2025-01-02 03:04:05.678+00', '20250102030405_init', NULL, NULL, '2025-01-02 03:04:05.123+00', 1),
    ('7d4a1c1e-9d7a-4d67-8b0f-000000000002', repeat('b2', 32), NULL, '20250203040506_add_posts', E'A migration failed\nCOMMIT;\n\\.\nDatabase error code: 42P01', '2025-02-03 05:00:00+00', '2025-02-03 04:05:06+00', 0),
    ('7d4a1c1e-9d7a-4d67-8b0f-000000000003', repeat('c3', 32), '2025-02-03 06:00:00+00', '20250203040506_add_posts', '', NULL, '2025-02-03 05:59:59+00', 1),
    ('7d4a1c1e-9d7a-4d67-8b0f-000000000004', repeat('d4', 32), '2025-03-04 05:06:08+00', '20250304050607_billing', NULL, NULL, '2025-03-04 05:06:07+00', 3);
CREATE TABLE public."User" (
    id text PRIMARY KEY,
    email text NOT NULL,
    "firstName" text,
    role public."Role" DEFAULT 'USER'::public."Role" NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    "managerId" text REFERENCES public."User" (id) ON UPDATE CASCADE ON DELETE SET NULL
);
CREATE UNIQUE INDEX "User_email_key" ON public."User" USING btree (email);
CREATE TABLE public."Post" (
    id serial PRIMARY KEY,
    title text NOT NULL,
    "authorId" text NOT NULL CONSTRAINT "Post_authorId_fkey" REFERENCES public."User" (id) ON UPDATE CASCADE ON DELETE RESTRICT,
    meta jsonb DEFAULT '{"a": [1, 2, {"b": "it''s; \"quoted\""}]}'::jsonb NOT NULL,
    tags text[] DEFAULT ARRAY[]::text[]
);
CREATE INDEX "Post_tags_idx" ON public."Post" USING gin (tags);
CREATE TABLE public."_PostToUser" (
    "A" integer NOT NULL REFERENCES public."Post" (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "B" text NOT NULL REFERENCES public."User" (id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE UNIQUE INDEX "_PostToUser_AB_unique" ON public."_PostToUser" USING btree ("A", "B");
INSERT INTO public."User" SELECT 'u' || i, 'user' || i || '@example.com', nullif('Name ' || i, 'Name 3'), CASE WHEN i = 1 THEN 'ADMIN' ELSE 'USER' END::public."Role", timestamp '2025-01-01' + i * interval '1 hour', CASE WHEN i > 1 THEN 'u1' END FROM generate_series(1, 20) i;
INSERT INTO public."Post" (title, "authorId", tags) SELECT 'Post ' || i, 'u' || (i % 20 + 1), ARRAY['t' || i % 3, NULL, ''] FROM generate_series(1, 40) i;
INSERT INTO public."_PostToUser" SELECT i, 'u' || (i % 20 + 1) FROM generate_series(1, 40) i;

--: [] identity, generated columns, sequences
CREATE SEQUENCE app.plain;
CREATE SEQUENCE app."Down; sequence" AS smallint INCREMENT BY -3 MINVALUE -300 MAXVALUE -1 START WITH -1 CACHE 5 CYCLE;
CREATE SEQUENCE app.not_called START WITH 1000;
CREATE SEQUENCE app.set_but_not_called;
CREATE SEQUENCE app.big AS bigint MAXVALUE 9223372036854775807 START WITH 9223372036854775806;
SELECT nextval('app.plain'), nextval('app.plain'), nextval('app."Down; sequence"'), setval('app.set_but_not_called', 77, false), nextval('app.big');
COMMENT ON SEQUENCE app.plain IS 'SELECT pg_catalog.setval(''app.plain'', 1, false);';
GRANT USAGE ON SEQUENCE app.plain TO reader;
CREATE TABLE app.numbered (
    always integer GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 10),
    by_default bigint GENERATED BY DEFAULT AS IDENTITY,
    small smallserial,
    from_sequence integer DEFAULT nextval('app.plain'),
    "twice;" integer GENERATED ALWAYS AS (small * 2) STORED,
    dropped text,
    label text DEFAULT 'it''s; "so"' NOT NULL,
    PRIMARY KEY (always)
);
INSERT INTO app.numbered (label) SELECT 'n' || i FROM generate_series(1, 7) i;
ALTER TABLE app.numbered DROP COLUMN dropped;
ALTER TABLE app.numbered ADD COLUMN late text DEFAULT 'filled without a rewrite';
ALTER SEQUENCE app."Down; sequence" OWNED BY app.numbered.label;

--: [18] virtual columns, constraints over time
CREATE TABLE app.virtual (n integer, squared integer GENERATED ALWAYS AS (n * n) VIRTUAL, kept integer GENERATED ALWAYS AS (n + 1) STORED);
INSERT INTO app.virtual SELECT generate_series(1, 4);
ALTER TABLE app.virtual ADD CONSTRAINT not_enforced CHECK (n > 2) NOT ENFORCED;
ALTER TABLE app.virtual ADD CONSTRAINT some_null NOT NULL n NOT VALID;
CREATE TABLE app.temporal (id integer, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
CREATE TABLE app.temporal_child (id integer, valid daterange, FOREIGN KEY (id, PERIOD valid) REFERENCES app.temporal (id, PERIOD valid));
INSERT INTO app.temporal VALUES (1, '[2025-01-01,2025-07-01)'), (1, '[2025-07-01,)');
INSERT INTO app.temporal_child VALUES (1, '[2025-03-01,2025-04-01)');

--: [] users and partitions, foreign keys both ways
CREATE TABLE app.users (id integer PRIMARY KEY, email app.email UNIQUE, mood app.mood, home app.address, age app.positive DEFAULT 30);
INSERT INTO app.users SELECT i, ('Person' || i || '@Example.com')::app.email, (enum_range(NULL::app.mood))[1 + i % 8], ROW('Street ' || i, '', '1234', ARRAY[i, NULL])::app.address, 20 + i FROM generate_series(1, 30) i;
CREATE TABLE app.events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    user_id integer REFERENCES app.users (id) ON DELETE CASCADE,
    payload jsonb,
    PRIMARY KEY (id, at, kind)
) PARTITION BY RANGE (at);
CREATE TABLE app.events_2024 PARTITION OF app.events FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (kind);
CREATE TABLE app."events_2025;login" PARTITION OF app.events_2025 (payload DEFAULT '{"of": "partition"}') FOR VALUES IN ('login', 'it''s; "odd"', 'two
COMMIT;
lines');
CREATE TABLE app.events_2025_rest PARTITION OF app.events_2025 DEFAULT PARTITION BY HASH (id);
CREATE TABLE app.events_2025_rest_0 PARTITION OF app.events_2025_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.events_2025_rest_1 PARTITION OF app.events_2025_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE app.events_later (kind text NOT NULL, gone integer, payload jsonb, user_id integer, id bigint NOT NULL, at timestamp with time zone NOT NULL, CONSTRAINT own_check CHECK (id > 0));
ALTER TABLE app.events_later DROP COLUMN gone;
ALTER TABLE app.events ATTACH PARTITION app.events_later DEFAULT;
CREATE INDEX events_user ON app.events (user_id) WHERE payload IS NOT NULL;
INSERT INTO app.events SELECT i, timestamptz '2024-11-01 00:00+00' + i * interval '7 days', (ARRAY['login', 'logout', 'it''s; "odd"', E'two\nCOMMIT;\nlines'])[1 + i % 4], 1 + i % 30, jsonb_build_object('i', i, 'text', E'a\tb\\c\n') FROM generate_series(1, 90) i;
CREATE TABLE app.notes (id integer PRIMARY KEY, event_id bigint, event_at timestamp with time zone, event_kind text, FOREIGN KEY (event_id, event_at, event_kind) REFERENCES app.events (id, at, kind) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO app.notes SELECT id, id, at, kind FROM app.events WHERE id % 9 = 0;
CREATE TABLE app."empty partitioned" (a integer) PARTITION BY LIST (a);

--: [] inheritance
CREATE TABLE app.parent (id integer, note text DEFAULT 'parent', CONSTRAINT here_only CHECK (id < 100) NO INHERIT);
CREATE TABLE app.other_parent (id integer, extra numeric(10, 2));
CREATE TABLE app.child (own text, note text DEFAULT 'child') INHERITS (app.parent, app.other_parent);
CREATE TABLE app.grandchild () INHERITS (app.child);
INSERT INTO app.parent SELECT i FROM generate_series(1, 5) i;
INSERT INTO app.child SELECT 200 + i, 'c', i / 3.0, E'\\.' FROM generate_series(1, 6) i;
INSERT INTO app.grandchild SELECT 300 + i, NULL, NULL, '' FROM generate_series(1, 7) i;
CREATE TABLE app.typed OF app.address (PRIMARY KEY (street), zip WITH OPTIONS DEFAULT '00000');
INSERT INTO app.typed VALUES ('A', 'sad', DEFAULT, '{1,2}');

--: [] every type of value
CREATE TABLE app.vals (
    id integer PRIMARY KEY, t text, c character(4), vc character varying(40) COLLATE app."Posix collation", ci public.citext, hs ext.hstore, b boolean,
    i2 smallint, i8 bigint, n numeric, f4 real, f8 double precision, m money, by bytea, j json, jb jsonb, jp jsonpath, ta text[], ia integer[][],
    r int4range, mr datemultirange, sp app.span, sps app.spans, d date, ts timestamp without time zone, tz timestamp with time zone, ti time, tt timetz,
    iv interval, u uuid, ip inet, ci4 cidr, mac macaddr, bits bit(5), vbits bit varying, pt point, bx box, pg polygon, ln line, cc circle, pa path,
    tv tsvector, tq tsquery, x xml, co app.address, cos app.address[], en app.mood[], o oid, rc regclass, nm name, "char" "char", lsn pg_lsn, txid xid8
);
INSERT INTO app.vals (id, t) VALUES (1, NULL), (2, ''), (3, E'\t'), (4, E'\\'), (5, E'a\nb\r\nc'), (6, E'\\.'), (7, '\N'), (8, ' blanks '), (9, E'\b\f\v\x01\x7f'), (10, 'NULL'), (11, 'ünïcödé 表 🐘 ' || U&'\FEFF\2028\00A0'), (12, 'COMMIT;'), (13, '-- PostgreSQL database dump complete'), (14, E'x\n\\.\nCOPY public.t FROM stdin;\nCOMMIT;\n\\restrict x\nSET transaction_timeout = 0;\n'), (15, '$$'), (16, '"'''), (17, E'\\n');
INSERT INTO app.vals VALUES (100, 'all', 'ab', 'vc', 'CiTeXt', '"a b"=>NULL, c=>"it''s"', true, -32768, -9223372036854775808, 'NaN', '-Infinity', 1.7976931348623157e308, '-12.34', '\x00ff5c0a2e', '{"a":  1, "a": 2}', '{"b": null, "a": [1.50, "\n"]}', '$.a[*] ? (@ > 1)', ARRAY['a,b', '"', NULL, 'NULL', ''], '{{1,2},{3,NULL}}',
    '[1,5)', '{[2025-01-01,2025-02-01),[2025-03-01,)}', '[0.5,1.5)', '{[1,2),(3,4)}', '0044-03-15 BC', 'infinity', '-infinity', '24:00:00', '12:34:56.789+05:30',
    '-1 year 2 mons -3 days 04:05:06.789', '00000000-0000-0000-0000-000000000000', '::ffff:1.2.3.4/120', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'', '(1,-2.5)', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', '{1,2,3}', '<(0,0),1>', '[(0,0),(1,1)]',
    to_tsvector('app.english', 'The quick brown foxes; jumped'), 'a & b | !c', '<a b="c">&amp;; COMMIT;</a>', ROW('it''s, "x"', 'sad', NULL, NULL), ARRAY[ROW('a', NULL, 'b', '{}')::app.address], enum_range(NULL::app.mood), 4294967295, 'pg_class', 'name', '\', '16/B374D848', '18446744073709551615');
INSERT INTO app.vals (id, n, f4, f8, d, ts, tz, iv, m, c) VALUES (101, 123456789012345678901234567890.000100, 1.17549435e-38, 4.9e-324, '5874897-12-31', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999+00', '178000000 years', '92233720368547758.07', ''), (102, 0.00, 'NaN', '-0', '-infinity', '2025-03-30 02:30:00', '2025-10-26 02:30:00.000001+02', '1 mon', 0, 'abcd'), (103, 'Infinity', 'Infinity', 0.1, 'infinity', NULL, NULL, '-00:00:00.000001', NULL, NULL);
CREATE TABLE app.toasted (id integer PRIMARY KEY, plain text, external text, compressed text, bytes bytea);
ALTER TABLE app.toasted ALTER COLUMN external SET STORAGE EXTERNAL, ALTER COLUMN compressed SET COMPRESSION lz4;
INSERT INTO app.toasted SELECT 1, string_agg(md5(i::text), ''), string_agg(md5(i::text), E'\n'), repeat('COMMIT;' || E'\n', 20000), decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 33000) i;
CREATE UNLOGGED TABLE app.unlogged (id integer PRIMARY KEY, t text);
INSERT INTO app.unlogged SELECT i, 'u' || i FROM generate_series(1, 10) i;
CREATE TABLE app.no_columns ();
INSERT INTO app.no_columns DEFAULT VALUES; INSERT INTO app.no_columns DEFAULT VALUES; INSERT INTO app.no_columns DEFAULT VALUES;
CREATE TABLE app.all_columns_dropped (a integer);
INSERT INTO app.all_columns_dropped VALUES (1), (2);
ALTER TABLE app.all_columns_dropped DROP COLUMN a;
CREATE TABLE app.only_generated (a integer GENERATED ALWAYS AS (1) STORED);
INSERT INTO app.only_generated VALUES (DEFAULT), (DEFAULT);
CREATE TABLE app.duplicates (a integer, b text);
INSERT INTO app.duplicates SELECT 1, 'same' FROM generate_series(1, 5);
INSERT INTO app.duplicates SELECT NULL, NULL FROM generate_series(1, 3);
CREATE TABLE app.empty (id integer PRIMARY KEY);
DO $do$
BEGIN
    EXECUTE 'CREATE TABLE app.wide (' || (SELECT string_agg(format('c%s integer', i), ', ') FROM generate_series(1, 300) i) || ')';
    EXECUTE 'INSERT INTO app.wide VALUES (' || (SELECT string_agg(i::text, ', ') FROM generate_series(1, 300) i) || ')';
END
$do$;

--: [] odd names
CREATE TABLE app."COPY public.t FROM stdin;
1	2
\.
COMMIT;" ("id
COMMIT;" serial CONSTRAINT "key
\." PRIMARY KEY, "a "";b""" text, "$$" integer, "-- x" integer, "/* x" integer, "back\slash" text, "\." text);
INSERT INTO app."COPY public.t FROM stdin;
1	2
\.
COMMIT;" ("a "";b""") VALUES ('x'), (NULL);
COMMENT ON TABLE app."COPY public.t FROM stdin;
1	2
\.
COMMIT;" IS E'odd
\\.';
CREATE TABLE "Odd Schema.with ""quotes"" and . dots"."a ""table"".with; dots" (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "select" text UNIQUE, "Ünïcödé 表 🐘" text);
INSERT INTO "Odd Schema.with ""quotes"" and . dots"."a ""table"".with; dots" ("select") VALUES ('from'), ('where');
CREATE TABLE "Odd Schema.with ""quotes"" and . dots"."Ünïcödé 表 🐘" (id integer REFERENCES "Odd Schema.with ""quotes"" and . dots"."a ""table"".with; dots" (id));
INSERT INTO "Odd Schema.with ""quotes"" and . dots"."Ünïcödé 表 🐘" VALUES (1), (2), (NULL);
CREATE TABLE "two
COMMIT;
lines"."-- PostgreSQL database dump complete" (id serial PRIMARY KEY, t text);
INSERT INTO "two
COMMIT;
lines"."-- PostgreSQL database dump complete" (t) VALUES ('\.'), ('COMMIT;');
CREATE TABLE app.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx serial PRIMARY KEY);
INSERT INTO app.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx DEFAULT VALUES;
CREATE TABLE app."$dollar$" (id integer); INSERT INTO app."$dollar$" VALUES (1);
CREATE TABLE app."$$" (id integer); INSERT INTO app."$$" VALUES (1);
CREATE TABLE app."E'quoted\'" (id integer); INSERT INTO app."E'quoted\'" VALUES (1);
CREATE TABLE app."begin" ("begin" integer, "end" integer, "case" integer, "atomic" integer, "from" integer); INSERT INTO app."begin" VALUES (1, 2, 3, 4, 5);
CREATE TABLE app."(" (")" integer); INSERT INTO app."(" VALUES (1);
CREATE TABLE app."stdin;" (id integer); INSERT INTO app."stdin;" VALUES (1);
CREATE TABLE app.users2 (LIKE app.users INCLUDING ALL);

--: [] views
CREATE VIEW app.simple AS SELECT id, email::text || ';' AS "e;mail" FROM app.users WHERE mood <> '$$';
COMMENT ON COLUMN app.simple."e;mail" IS 'COMMIT;';
ALTER VIEW app.simple ALTER COLUMN id SET DEFAULT 42;
CREATE VIEW app."odd ""view""; COMMIT;" ("a
b", """;") WITH (security_barrier) AS SELECT id, 'x
COMMIT;
\.' FROM app.users WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW app.countdown (n) AS VALUES (3) UNION ALL SELECT n - 1 FROM countdown WHERE n > 0;
CREATE VIEW app.needs_key AS SELECT id, email, count(*) FROM app.users GROUP BY id;
CREATE VIEW app.circle AS SELECT 1 AS a, 'x'::text AS b;
CREATE FUNCTION app.of_circle() RETURNS SETOF app.circle LANGUAGE sql STABLE AS 'SELECT 1, ''y''::text';
CREATE OR REPLACE VIEW app.circle AS SELECT a, b FROM app.of_circle();
CREATE MATERIALIZED VIEW app.counts AS SELECT kind, count(*) AS n FROM app.events GROUP BY kind;
CREATE UNIQUE INDEX counts_kind ON app.counts (kind);
CREATE MATERIALIZED VIEW app."counts of; counts" AS SELECT sum(n) AS total FROM app.counts;
CREATE MATERIALIZED VIEW app.not_filled AS SELECT id FROM app.users WITH NO DATA;
COMMENT ON MATERIALIZED VIEW app.counts IS 'filled';
CREATE FUNCTION app.row_of_table(app.users) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1.email::text';
CREATE PROCEDURE app.atomic_with_table("new id" integer)
BEGIN ATOMIC
    INSERT INTO app.duplicates (a, b) VALUES ("new id", 'COMMIT; END;');
    UPDATE app.duplicates SET b = CASE WHEN a = 1 THEN 'one' ELSE ';' END WHERE a = "new id";
    SELECT count(*) AS "end" FROM app.duplicates;
END;

--: [15] views, nulls, sequences
CREATE VIEW app.as_invoker WITH (security_invoker = true) AS SELECT id FROM app.users;
CREATE TABLE app.one_null (a integer, b integer, UNIQUE NULLS NOT DISTINCT (a));
INSERT INTO app.one_null VALUES (NULL, 1), (2, 2);
CREATE TABLE app.partly_null (id integer PRIMARY KEY, a integer, b integer, FOREIGN KEY (a) REFERENCES app.one_null (a) ON DELETE SET NULL (a));
CREATE UNLOGGED SEQUENCE app.unlogged_sequence;
ALTER SEQUENCE app.unlogged_sequence OWNED BY app.partly_null.id;

--: [17] MERGE in a function
CREATE FUNCTION app.merges() RETURNS void
BEGIN ATOMIC
    MERGE INTO app.one_null t USING (SELECT 2 AS a) s ON t.a = s.a
        WHEN MATCHED THEN UPDATE SET b = CASE WHEN t.b > 0 THEN 1 ELSE 0 END
        WHEN NOT MATCHED THEN INSERT (a, b) VALUES (s.a, 0);
END;

--: [] rules and triggers
CREATE TABLE app.log (at timestamp with time zone DEFAULT '2025-01-01 00:00:00+00', what text);
CREATE RULE several AS ON INSERT TO app.duplicates WHERE new.a = 99 DO ALSO (
    INSERT INTO app.log (what) VALUES ('one; COMMIT;');
    INSERT INTO app.log (what) SELECT CASE WHEN new.a = 1 THEN ';' ELSE '(' END;
    DELETE FROM app.log WHERE what = ')';
);
CREATE RULE nothing AS ON UPDATE TO app.simple DO INSTEAD NOTHING;
CREATE RULE "odd; rule" AS ON DELETE TO app.users2 DO ALSO NOTIFY "chan;nel", 'COMMIT;';
ALTER TABLE app.users2 DISABLE RULE "odd; rule";
COMMENT ON RULE several ON app.duplicates IS 'two; three';
CREATE FUNCTION app.log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.log (what) VALUES (tg_name || tg_op);
    RETURN NULL;
END
$$;
CREATE TRIGGER logged AFTER INSERT OR UPDATE OF email, mood ON app.users FOR EACH ROW WHEN (new.id > 10) EXECUTE FUNCTION app.log_change('it''s; "args"', 'COMMIT;');
CREATE TRIGGER "disabled; one" AFTER DELETE ON app.users FOR EACH ROW EXECUTE FUNCTION app.log_change();
ALTER TABLE app.users DISABLE TRIGGER "disabled; one";
CREATE TRIGGER always AFTER TRUNCATE ON app.users FOR EACH STATEMENT EXECUTE FUNCTION app.log_change();
ALTER TABLE app.users ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER transition AFTER UPDATE ON app.users REFERENCING OLD TABLE AS old_rows NEW TABLE AS "new;rows" FOR EACH STATEMENT EXECUTE FUNCTION app.log_change();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON app.notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.log_change();
CREATE TRIGGER instead INSTEAD OF INSERT ON app.simple FOR EACH ROW EXECUTE FUNCTION app.log_change();
CREATE TRIGGER on_partitions AFTER INSERT ON app.events FOR EACH ROW EXECUTE FUNCTION app.log_change();
ALTER TABLE app.events_2024 DISABLE TRIGGER on_partitions;
COMMENT ON TRIGGER logged ON app.users IS 'COMMIT;';
INSERT INTO app.log (what) VALUES ('first');

--: [] constraints and indexes
CREATE TABLE app.bookings (room integer, during tsrange, note text, cancelled boolean DEFAULT false, EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (NOT cancelled) DEFERRABLE);
INSERT INTO app.bookings SELECT i % 3, tsrange(timestamp '2025-01-01' + i * interval '1 day', timestamp '2025-01-01' + (i + 1) * interval '1 day'), 'b' || i FROM generate_series(1, 12) i;
ALTER TABLE app.bookings ADD CONSTRAINT unchecked CHECK (room > 0) NOT VALID;
COMMENT ON CONSTRAINT unchecked ON app.bookings IS 'room 0 is there; COMMIT;';
CREATE TABLE app.left_side (id integer PRIMARY KEY, other integer);
CREATE TABLE app.right_side (id integer PRIMARY KEY, other integer UNIQUE DEFERRABLE INITIALLY IMMEDIATE REFERENCES app.left_side);
ALTER TABLE app.left_side ADD CONSTRAINT circular FOREIGN KEY (other) REFERENCES app.right_side (id) MATCH FULL DEFERRABLE INITIALLY DEFERRED;
INSERT INTO app.left_side VALUES (1, 1), (2, 2); INSERT INTO app.right_side VALUES (1, 2), (2, 1);
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE app.left_side ADD CONSTRAINT orphans FOREIGN KEY (id) REFERENCES app.empty (id) NOT VALID;
CREATE INDEX "partial; index" ON app.users (lower(email::text) DESC NULLS LAST, ((home).street)) INCLUDE (mood) WITH (fillfactor = 70) WHERE mood <> 'it''s "fine"' AND email IS NOT NULL;
CREATE INDEX users_trigram ON app.users USING gin ((email::text) ext.gin_trgm_ops);
CREATE INDEX vals_brin ON app.vals USING brin (id) WITH (pages_per_range = 4);
CREATE INDEX vals_hash ON app.vals USING hash (t) WHERE length(t) < 100;
CREATE INDEX vals_collated ON app.vals (vc COLLATE "C" text_pattern_ops);
CREATE INDEX vals_search ON app.vals USING gist (tv);
ALTER INDEX app."partial; index" ALTER COLUMN 1 SET STATISTICS 400;
COMMENT ON INDEX app."partial; index" IS 'COMMIT;';
ALTER TABLE app.users CLUSTER ON users_pkey;
ALTER TABLE app.users REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX users2_identity ON app.users2 (id);
ALTER TABLE app.users2 REPLICA IDENTITY USING INDEX users2_identity;
ALTER TABLE app.duplicates REPLICA IDENTITY NOTHING;
ALTER TABLE app.users SET (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE app.users ALTER COLUMN mood SET STATISTICS 123, ALTER COLUMN email SET (n_distinct = -0.5);
CREATE STATISTICS app.three (ndistinct, dependencies, mcv) ON id, mood, age FROM app.users;
CREATE STATISTICS app."of; expressions" ON (id % 10), (lower(email::text)) FROM app.users;
ALTER STATISTICS app.three SET STATISTICS 50;
COMMENT ON STATISTICS app.three IS 'three kinds';

--: [] policies and privileges
CREATE POLICY readers ON app.users FOR SELECT TO reader USING (mood <> '$$' AND EXISTS (SELECT FROM app.log WHERE what = ';'));
CREATE POLICY "odd; policy" ON app.users AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (true) WITH CHECK (id > 0);
CREATE POLICY not_enabled ON app.notes FOR ALL USING (false);
ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;
COMMENT ON POLICY readers ON app.users IS 'COMMIT;';
GRANT SELECT (id, email), UPDATE (mood) ON app.users TO reader;
GRANT ALL ON app.duplicates TO "Rôle with ""quotes"", dots. and blanks" WITH GRANT OPTION;
REVOKE SELECT ON app.log FROM reader;
GRANT TRIGGER, TRUNCATE ON app.log TO PUBLIC;
REVOKE ALL ON app.empty FROM CURRENT_USER;
GRANT SELECT ON app.empty TO CURRENT_USER;
GRANT EXECUTE ON PROCEDURE app.commits(integer) TO reader;
COMMENT ON TABLE app.users IS 'people
COMMIT;
\.';
COMMENT ON COLUMN app.users.email IS '';
COMMENT ON COLUMN app.users.mood IS E'tab\tand \\ backslash';

--: [superuser] several owners, a grant by someone else, row security even for the owner
CREATE TABLE app.forced (id integer PRIMARY KEY);
INSERT INTO app.forced SELECT generate_series(1, 6);
ALTER TABLE app.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY above_three ON app.forced USING (id > 3);
ALTER TABLE app.forced OWNER TO owner;
ALTER TABLE app.numbered OWNER TO "Rôle with ""quotes"", dots. and blanks";
ALTER FUNCTION app.twice(integer) OWNER TO reader;
ALTER TYPE app.span OWNER TO owner;
ALTER SCHEMA "two
COMMIT;
lines" OWNER TO owner;
GRANT SELECT ON app.log TO owner WITH GRANT OPTION;
GRANT USAGE ON SCHEMA app TO owner;
SET SESSION AUTHORIZATION owner;
GRANT SELECT ON app.log TO reader;
RESET SESSION AUTHORIZATION;

--: [superuser] foreign data; the wrapper without a handler can't be read
CREATE FOREIGN DATA WRAPPER dummy OPTIONS (debug 'it''s; true');
COMMENT ON FOREIGN DATA WRAPPER dummy IS 'no handler';
GRANT USAGE ON FOREIGN DATA WRAPPER dummy TO owner;
CREATE SERVER "odd; server" TYPE 'x' VERSION '1;2' FOREIGN DATA WRAPPER dummy OPTIONS (host 'it''s', "odd name" 'COMMIT;');
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'nowhere');
CREATE USER MAPPING FOR owner SERVER "odd; server" OPTIONS (password 'it''s; secret');
CREATE USER MAPPING FOR PUBLIC SERVER "odd; server";
CREATE FOREIGN TABLE app.far (id integer OPTIONS (column_name 'ID'), t text DEFAULT 'x' NOT NULL) SERVER "odd; server" OPTIONS (table 'far; away');
ALTER FOREIGN TABLE app.far ADD CONSTRAINT positive CHECK (id > 0);
CREATE FOREIGN TABLE app.farther (id integer) SERVER loopback;
CREATE TABLE app.near_and_far (id integer, t text) PARTITION BY LIST (id);
CREATE TABLE app.near PARTITION OF app.near_and_far FOR VALUES IN (1, 2);
CREATE FOREIGN TABLE app.far_part PARTITION OF app.near_and_far FOR VALUES IN (3) SERVER "odd; server";
INSERT INTO app.near VALUES (1, 'near'), (2, 'nearer');

--: [] large objects, the last over two megabytes
SELECT lo_from_bytea(900001, '\x00ff0a5c2e0a'), lo_from_bytea(900002, ''), lo_from_bytea(900003, convert_to(string_agg(md5(i::text), E'\n\\.\nCOMMIT;\n'), 'UTF8')) FROM generate_series(1, 55000) i;
COMMENT ON LARGE OBJECT 900001 IS 'COMMIT;
\.';
GRANT SELECT ON LARGE OBJECT 900001 TO reader;
CREATE TABLE app.files (id integer PRIMARY KEY, content oid);
INSERT INTO app.files VALUES (1, 900001), (2, 900002), (3, 900003);

--: [superuser] for all tables
ALTER LARGE OBJECT 900002 OWNER TO owner;
CREATE PUBLICATION everywhere FOR ALL TABLES WITH (publish = 'insert, update');

--: [] a label out of order, which this transaction can't use
ALTER TYPE app.mood ADD VALUE 'between' BEFORE '';

--: [] publications
CREATE PUBLICATION "some; tables" FOR TABLE app.users, app.notes WITH (publish_via_partition_root = true);
COMMENT ON PUBLICATION "some; tables" IS 'COMMIT;';

--: [15] some rows
CREATE PUBLICATION some_rows FOR TABLE app.files (id, content) WHERE (id > 1);

--: [15 superuser] whole schemas
CREATE PUBLICATION schemas FOR TABLES IN SCHEMA app, TABLE public."User";
