"""Boolean expressions over all common types, drawn from a seed, and single changes of them."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

TYPES: Final = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a integer, b text);
CREATE DOMAIN code AS varchar CHECK (VALUE <> '');
CREATE DOMAIN code9 AS varchar(9);
CREATE DOMAIN small AS integer;
CREATE DOMAIN "Big One" AS numeric(12, 3);
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION several(VARIADIC text[]) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT cardinality($1)';
CREATE FUNCTION named(one integer DEFAULT 1, two text DEFAULT 'x') RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $2';
"""


class Column(NamedTuple):
    """A column, its type, and constants of it."""

    name: str
    type: str
    values: Sequence[str]


_WORDS: Final = ("'a'", "'b'", "'it''s'", "E'back\\\\slash'", "''", "'AND'", "'x y'")
_NUMBERS: Final = ("1", "2", "-3", "40")
_FRACTIONS: Final = ("1", "2.5", "-3.25", "0.1", "1e3")
COLUMNS: Final = (
    Column("i2", "smallint", _NUMBERS),
    Column("i4", "integer", _NUMBERS),
    Column("j4", "integer", _NUMBERS),
    Column("i8", "bigint", (*_NUMBERS, "5000000000")),
    Column("n", "numeric", _FRACTIONS),
    Column("n2", "numeric(10, 2)", _FRACTIONS),
    Column("f4", "real", _FRACTIONS),
    Column("f8", "double precision", (*_FRACTIONS, "'NaN'")),
    Column("m", "money", ("'1.50'", "'2'", "3::money")),
    Column("t", "text", _WORDS),
    Column("u", "text", _WORDS),
    Column("v", "varchar", _WORDS),
    Column("w", "varchar", _WORDS),
    Column("v5", "varchar(5)", _WORDS),
    Column("c", "char(5)", _WORDS),
    Column("ch", '"char"', ("'a'", "'b'", "'c'")),
    Column("nm", "name", ("'a'", "'b'", "'pg_class'")),
    Column("d", "date", ("'2020-01-02'", "'2021-03-04'", "date '2022-05-06'", "'infinity'")),
    Column("tm", "time", ("'10:11'", "'12:13:14.5'", "time '01:02'")),
    Column("tmz", "timetz", ("'10:11+02'", "'12:13:14.5+00'")),
    Column("ts", "timestamp", ("'2020-01-02 03:04'", "'2021-03-04'", "timestamp '2022-05-06 07:08:09.123'")),
    Column("ts3", "timestamp(3)", ("'2020-01-02 03:04'", "'2021-03-04 05:06:07.891'")),
    Column("tz", "timestamptz", ("'2020-01-02 03:04+00'", "'2021-03-04 00:00+05:30'")),
    Column("iv", "interval", ("'1 day'", "'2 hours 3 minutes'", "interval '1' year", "'P1Y2M'")),
    Column("y", "bytea", ("'\\x00ff'", "'abc'")),
    Column("b3", "bit(3)", ("'101'", "B'010'")),
    Column("vb", "bit varying(8)", ("'101'", "B'0101'", "X'1F'")),
    Column("id", "uuid", ("'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'")),
    Column("jb", "jsonb", ("""'{"a": 1}'""", "'[1, 2]'", "'null'")),
    Column("ai", "integer[]", ("'{1,2}'", "ARRAY[1, 2]", "ARRAY[3, NULL]")),
    Column("at", "text[]", ("'{a,b}'", "ARRAY['a', 'b']", "ARRAY['x']")),
    Column("av", "varchar[]", ("'{a,b}'", "ARRAY['a', 'b']::varchar[]", "ARRAY[]::varchar[]")),
    Column("an", "numeric[]", ("'{1,2}'", "ARRAY[1, 2.5]")),
    Column("ri", "int4range", ("'[1,5)'", "int4range(1, 9)", "'empty'")),
    Column("rd", "daterange", ("'[2020-01-01,2021-01-01)'", "daterange('2020-01-01', NULL)")),
    Column("mi", "int4multirange", ("'{[1,2),[3,4)}'", "'{}'")),
    Column("ip", "inet", ("'10.0.0.1'", "'10.0.0.0/8'", "inet '::1'")),
    Column("net", "cidr", ("'10.0.0.0/8'", "'192.168.0.0/16'")),
    Column("mac", "macaddr", ("'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'")),
    Column("o", "oid", ("1", "2", "'3'")),
    Column("sv", "tsvector", ("'a b'", "'fat:2 cat:3'")),
    Column("sq", "tsquery", ("'a & b'", "'fat | cat'")),
    Column("e", "mood", ("'sad'", "'ok'", "'happy'")),
    Column("ae", "mood[]", ("'{sad}'", "ARRAY['sad', 'ok']::mood[]")),
    Column("k", "code", _WORDS),
    Column("k9", "code9", _WORDS),
    Column("s", "small", _NUMBERS),
    Column("big", '"Big One"', _FRACTIONS),
    Column("p", "pair", ("ROW(1, 'a')", "'(2,b)'")),
    Column("yes", "boolean", ("true", "false", "'t'")),
    Column("no", "boolean", ("true", "false", "'f'")),
)
_NAMED: Final[Mapping[str, Column]] = {each.name: each for each in COLUMNS}

# `$x` is the column x.
WRITTEN: Final[tuple[str, ...]] = (
    "$i4 = ANY (ARRAY[1, 2]::bigint[])",
    "$n = ANY (ARRAY[1, 2])",
    "$n = ANY (ARRAY[$i4, $j4])",
    "$f8 = ANY (ARRAY[1, 2.5])",
    "$i8 = ANY (ARRAY[$i4, 7])",
    "$v = ANY (ARRAY['a', 'b']::varchar[])",
    "$v = ANY (ARRAY['a', 'b']::varchar(3)[])",
    "$v = ANY (ARRAY['a', NULL]::varchar[]::text[])",
    "$v = ANY ((ARRAY['a', 'b']::varchar[])::varchar(1)[])",
    "B'101' = ANY (ARRAY[B'101', B'11']::bit(3)[])",
    "'a' = ANY (ARRAY['a'::bpchar, NULL]::char(5)[])",
    "'1 year' = ANY (ARRAY['1 year'::interval, NULL]::interval year to month[])",
    "'1 day' = ANY (ARRAY['1 day'::interval]::interval day to second(3)[])",
    "$n2 = ANY ((ARRAY[1.5, 2.5])::numeric(4,1)[])",
    "$n2 = ANY ((ARRAY[1, 2])::numeric(4,1)[])",
    "ARRAY[$v, $w] = ARRAY['a', 'b']",
    "ARRAY[$v, $w]::text[] = ARRAY['a', 'b']",
    "ARRAY[ARRAY[$v, 'a'], ARRAY['b', $w]]::text[] = '{}'",
    "(ARRAY[ARRAY[$v, $w], ARRAY[$w, $v]])::text[] && $at",
    "$v || ARRAY['a', 'b'] = $at",
    "$at @> ARRAY[$v]::text[]",
    "$at @> ARRAY[$v, $w]::text[]",
    "$av @> ARRAY['a', 'b']::varchar[]",
    "$av && ARRAY[$t, 'x']::varchar[]",
    "$at[1] = 'a' AND $at[1:2] = ARRAY['a']",
    "($ai)[1] IN (1, 2)",
    "array_position($at, 'a') > 0",
    "$v IN ('a', $w, 'b')",
    "$v NOT IN ('a', $w, $t, 'b')",
    "$i4 IN ($j4, $i2, 3)",
    "$i4 NOT IN ($j4, 7, $i2, 8)",
    "lower($v) IN ('a', 'b')",
    "$v COLLATE \"C\" IN ('a', 'b')",
    "($v COLLATE \"C\") NOT IN ('a', 'b') AND $t COLLATE \"C\" > 'a'",
    "$i4 BETWEEN 1 AND 2 AND $yes",
    "$i4 NOT BETWEEN 1 AND 2 OR $yes OR $no",
    "$i4 BETWEEN SYMMETRIC 5 AND 1",
    "$i4 BETWEEN SYMMETRIC 5 AND 1 AND $yes",
    "NOT ($i4 BETWEEN 1 AND 2)",
    "($i4 > 1 AND $i4 < 5) AND $yes",
    "$yes AND ($no AND $i4 > 1)",
    "($yes OR $no) OR ($i4 > 1 OR $i4 < 0)",
    "($yes OR $no) AND ($i4 > 1 OR $i4 < 0) AND $j4 = 2",
    "(($yes AND $no) AND $i4 = 1) AND $j4 = 2",
    "($i4, $j4) = (1, 2)",
    "($i4, $j4) = (1, 2) AND $yes",
    "($i4, $j4) <> (1, 2) OR $yes",
    "($i4, $j4) < (1, 2)",
    "ROW($i4, $t) IS NOT NULL",
    "($i4, $t) IN ((1, 'a'), (2, 'b'))",
    "($i4, $v) IN ((1, 'a'), (2, 'b')) AND $yes",
    "($i4, $t) NOT IN ((1, 'a'), (2, 'b'))",
    "($i4, $t) IS DISTINCT FROM (1, 'a')",
    "$i4 IS NOT DISTINCT FROM $j4",
    "$i4 IS DISTINCT FROM NULL",
    "$yes IS NOT TRUE AND $no IS UNKNOWN",
    "$yes = true AND NOT $no",
    "CASE $v WHEN 'a' THEN true WHEN 'b' THEN false ELSE $yes END",
    "CASE WHEN $v IN ('a', 'b') THEN $i4 ELSE $n END > 0",
    "CASE $i4 WHEN 1 THEN 'x' WHEN 2 THEN $v END = 'x'",
    "CASE WHEN $yes THEN 1.5 ELSE 2 END = 2",
    "CASE WHEN $yes THEN NULL ELSE 2 END = 2",
    "coalesce($v, 'a') IN ('a', 'b')",
    "coalesce($v, $t, 'x') = 'x'",
    "coalesce($i4, $i8, 0) > 0",
    "nullif($v, '') IS NULL",
    "nullif($i4, 0) = 1",
    "greatest($i4, $n, 1) > least($j4, 2)",
    "$v LIKE 'a%'",
    "$v NOT LIKE 'a!%' ESCAPE '!'",
    "$t ILIKE ANY (ARRAY['a%', 'b%'])",
    "$v LIKE ANY (ARRAY['a%', 'b%'])",
    "$v NOT LIKE ALL ('{a%,b%}')",
    "$t SIMILAR TO '(a|b)%'",
    "$v ~ '^[a-z]+$' AND $v !~* 'x'",
    "$t ^@ 'a'",
    "starts_with($v, 'a')",
    "$c = 'a' AND $c IN ('a', 'b')",
    "$c::text IN ('a', 'b')",
    "$c = ANY (ARRAY['a', 'b']::text[])",
    "$v::varchar(3) = 'abc'",
    "$v = 'abc'::varchar(2)",
    "$v5 = ANY (ARRAY['abc', 'de']::varchar(2)[])",
    "$t::varchar IN ('a', 'b')",
    "$t::char(3) IN ('a', 'b')",
    "$e IN ('sad', 'ok')",
    "$e > 'sad' AND $e::text IN ('ok', 'happy')",
    "$e::text = ANY (ARRAY['ok', 'happy']::varchar[])",
    "$k IN ('a', 'b')",
    "$k9 NOT IN ('a', 'b')",
    "$k = 'x'::code",
    "$k = ANY (ARRAY['x', 'y']::code[])",
    "$k9 = ANY (ARRAY['x', 'y']::code9[])",
    "$s IN (1, 2) AND $s = 3::small",
    '$big IN (1, 2.5) AND $big > 1::"Big One"',
    "$nm IN ('a', 'b')",
    "$nm = ANY (ARRAY['a', 'b']::text[])",
    "$net IN ('10.0.0.0/8', '192.168.0.0/16')",
    "$net = ANY (ARRAY['10.0.0.0/8', '192.168.0.0/16']::cidr[])",
    "$ip << '10.0.0.0/8' AND host($ip) IN ('a', 'b')",
    "$vb IN ('101', '11') AND $b3 IN (B'101', B'111')",
    "$b3 = '101'::bit(3) AND $vb = B'1'::bit varying(4)",
    "$i2 = ANY (ARRAY[1, 2]::smallint[])",
    "$i2 IN (1, 2) AND $i2 + 1::smallint > 3",
    "$i4 + $i8 * 2 - $n / 3 % 4 > -1",
    "-$i4 < - 5 AND @ $i4 > 0",
    "- (-5) < $i4",
    "|/ $f8 > 2 AND $n ^ 2 = 4",
    "$i4 & 3 | 4 # 5 << 1 > ~ 6",
    "round($n, 2) = $n AND trunc($f8) = 1",
    "$n = 1.0 AND $n = 1e10 AND $n = 100000000000000000000",
    "$f8 = 'Infinity' AND $f4 <> 1e-5",
    "$n::integer = 2 AND $n2::numeric(4,1) = 1.5",
    "1.5::numeric(5,2) = $n",
    "'1.5'::numeric(5,2) = $n",
    "CAST('7' AS smallint) = $i2 AND int8 '9' = $i8",
    "$t || $v || 'x' = $c || 'y'",
    "$i4 || 'x' = $t",
    "concat($t, $v, 1) = format('%s-%s', $i4, $v)",
    "format('%s', VARIADIC ARRAY['a', 'b']) = $t",
    "several($t, $v) > 1 AND several('a', 'b') = 2",
    "several(VARIADIC ARRAY[$v, $w]::text[]) > 1",
    "named(two => $t) = 'x' AND named($i4) = named()",
    "twice($i4) IN (2, 4) AND twice($j4) > 0",
    "substring($t FROM 2 FOR 3) = 'a' AND substring($v, 1, 2) = 'b'",
    "substring($t SIMILAR 'a#\"b#\"' ESCAPE '#') = 'a'",
    "overlay($t PLACING 'x' FROM 2) = 'a'",
    "position('a' IN $v) > 0 AND trim(LEADING 'x' FROM $t) = 'a' AND trim($v) = ''",
    "length($v) > 1 AND char_length($c) BETWEEN 1 AND 5 AND octet_length($t) > 2",
    "left($v, 2) IN ('ab', 'cd')",
    "upper($v)::varchar(2) IN ('AB', 'CD')",
    "regexp_replace($v, 'a', 'b', 'g') = 'x'",
    "split_part($v, ',', 1) <> ALL (ARRAY['a', 'b']::varchar[])",
    "normalize($t) = $t AND $t IS NORMALIZED",
    "$d > '2020-01-01' AND $d + 1 < date '2030-01-01' AND $d - $d = 3",
    "$d IN ('2020-01-01', '2021-01-01')",
    "$ts IN ('2020-01-01', '2021-01-01 10:00')",
    "$ts = ANY (ARRAY['2020-01-01', '2021-01-01']::date[])",
    "$ts3 IN ('2020-01-01', '2021-01-01 10:00')",
    "$ts::timestamp(2) = '2020-01-01 00:00:00.123'::timestamp(2)",
    "$ts3 = ANY (ARRAY['2020-01-01', '2021-01-01']::timestamp(1)[])",
    "$tz > '2020-01-01 00:00+00' AND $tz AT TIME ZONE 'UTC' < '2030-01-01'",
    "$ts AT TIME ZONE 'Europe/Paris' > '2020-01-01 00:00+00'",
    "extract(year FROM $d) IN (2020, 2021) AND extract(epoch FROM $iv) > 10",
    "date_part('month', $ts) = 2 AND date_trunc('day', $ts) = $ts",
    "($d, $d) OVERLAPS ('2020-01-01'::date, '2021-01-01'::date)",
    "($ts, interval '1 day') OVERLAPS ('2020-01-01'::timestamp, interval '2 days')",
    "$iv IN ('1 day', '2 hours') AND $iv > interval '1' year",
    "$iv::interval(3) = interval '1 02:03' day to minute",
    "$iv = ANY (ARRAY['1 day', '2 days']::interval[])",
    "$tm IN ('10:00', '11:00') AND $tm + '1 hour' > '12:00'",
    "$tm::time(2) = '10:00:00.123' AND $tmz > '10:00+02'",
    "$y IN ('\\x00', '\\xff') AND length($y) > 1",
    "$jb @> '{\"a\": 1}' AND $jb ->> 'a' = 'x' AND $jb #>> '{a,b}' = 'y'",
    "$jb ->> 'a' IN ('x', 'y')",
    "($jb ->> 'a')::varchar IN ('x', 'y')",
    "$jb ? 'a' AND $jb ?| ARRAY['a', 'b'] AND $jb ?& ARRAY['a']::text[]",
    "$jb ['a'] = '1' AND $jb['a']['b'] IS NULL",
    "jsonb_typeof($jb) = ANY ('{object,array}')",
    "jsonb_typeof($jb) IN ('object', 'array')",
    "$jb @@ '$.a > 1' AND $jb @? '$.b[*]'",
    "jsonb_build_object('a', $v, 'b', ARRAY[1, 2]) <> '{}'",
    "$ri @> 3 AND $ri && int4range(1, 5) AND NOT isempty($ri)",
    "$ri IN ('[1,5)', 'empty') AND lower($rd) > '2020-01-01'",
    "$mi @> 3 AND $mi && $ri",
    "$id IN ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')",
    "$id::text IN ('a', 'b')",
    "$sv @@ $sq AND $sv @@ 'a & b'::tsquery",
    "($p).a IN (1, 2) AND ($p).b = 'x'",
    "$p = ROW(1, 'a')::pair",
    "$p IN (ROW(1, 'a')::pair, ROW(2, 'b')::pair)",
    "$p IS NOT NULL",
    "ROW(($p).a, ($p).b) IS NOT NULL",
    "$ai = ARRAY[1, 2] AND $ai && '{1}' AND 3 = ANY ($ai) AND 4 <> ALL ($ai)",
    "$an && ARRAY[1, 2]",
    "$an @> ARRAY[1, 2]::numeric[] AND $an = ARRAY[1, 2.5]::numeric(5,1)[]",
    "$av = ARRAY['a', 'b']",
    "$av && ARRAY['a', 'b']::varchar(3)[]",
    "$v = ANY ($at) AND $t = ANY ($av)",
    "$ae && ARRAY['sad', 'ok']::mood[] AND 'ok' = ANY ($ae)",
    "cardinality(ARRAY[$i4, $j4]) = 2 AND array_length(ARRAY[]::text[], 1) IS NULL",
    "ARRAY[$i4, NULL]::bigint[] = '{1,2}'",
    "ARRAY[$i4, $n] = ARRAY[1, 2]",
    "ARRAY[[1, 2], [3, $i4]]::numeric[] = '{}'",
    "$ai || 5 = $ai || ARRAY[6, 7]",
    "num_nonnulls($i4, $t, $v) = 1 AND num_nulls(VARIADIC ARRAY[$v, $w]) = 0",
    "($i4 IS NULL) <> ($j4 IS NULL)",
    "($i4 IS NULL)::integer + ($j4 IS NULL)::integer = 1",
    "($yes IS TRUE) = ANY (ARRAY[true, $no])",
    "$o = 'pg_class'::regclass AND $o IN (1, 2)",
    "$ch IN ('a', 'b') AND $ch = 'c'::\"char\"",
    "$m > '1.00'::money AND $m IN ('1', '2')",
    "xmlserialize(CONTENT '<a/>'::xml AS text) = $t",
    "$t IN ('a') AND $v IN ('b') AND $i4 IN (3)",
    "$t = 'a' AND ($v = 'b' OR $w = 'c') AND NOT ($u = 'd' AND $k = 'e')",
    "$v IN ('a', 'b') AND $w IN ('c', 'd') AND $t IN ('e', 'f')",
    "($v IN ('a', 'b') OR $w NOT IN ('c', 'd')) AND $v5 IN ('e', 'f')",
    "CASE WHEN $v IN ('a', 'b') THEN $w IN ('c', 'd') ELSE $v5 NOT IN ('e', 'f') END",
    "bool($i4) AND $i4::boolean",
    "$yes::text IN ('true', 'false')",
    "$v::text::varchar::text IN ('a', 'b')",
    "$i4::text::varchar IN ('1', '2')",
    "($i4 + 1)::varchar IN ('1', '2')",
    "'a' IN ($v, $w)",
    "'a' = ANY (ARRAY[$v, $w])",
    "'a' = ANY (ARRAY[$v, $w]::text[])",
    "1 IN ($i4, $i2, $n)",
    "$i4 = 1 IS TRUE",
    "$t > ALL (ARRAY['a', 'b'])",
    "$v > ALL (ARRAY['a', 'b']::varchar[]) AND $v < SOME (ARRAY['x', 'y']::varchar[])",
)
# Only where subqueries may stand.
SUBQUERIES: Final[tuple[str, ...]] = (
    "EXISTS (SELECT NULL)",
    "EXISTS (SELECT 'x')",
    "EXISTS (SELECT -1)",
    "EXISTS (SELECT 1, 'a', NULL::integer, true, 2.5 FROM other)",
    "EXISTS (SELECT FROM other WHERE other.z = $i4)",
    "$i4 IN (SELECT z FROM other UNION ALL SELECT NULL)",
    "$i4 IN (SELECT NULL UNION SELECT z FROM other)",
    "$i8 IN (SELECT z FROM other UNION ALL SELECT 1 EXCEPT SELECT NULL)",
    "$v IN (SELECT 'a' UNION SELECT other.word FROM other)",
    "$t IN (SELECT 'a')",
    "$v IN (SELECT other.word FROM other WHERE other.word IN ('a', 'b'))",
    "$v NOT IN (SELECT other.word FROM other)",
    "$d IN (SELECT NULL UNION ALL SELECT '2020-01-01')",
    "$d IN (SELECT date '2020-01-01' UNION ALL SELECT NULL)",
    "$ts IN (SELECT NULL::timestamp UNION ALL SELECT now()::timestamp)",
    "$c IN (SELECT NULL::char(5) UNION ALL SELECT 'a'::bpchar)",
    "$e IN (SELECT NULL UNION ALL SELECT 'sad'::mood)",
    "$k IN (SELECT NULL UNION ALL SELECT 'x'::code)",
    "$n2 IN (SELECT 1.5 UNION SELECT -2.5 UNION SELECT NULL)",
    "$f8 IN (SELECT -1 UNION SELECT 2.5)",
    "$iv IN (SELECT NULL UNION ALL SELECT interval '1 day')",
    "$ai IN (SELECT NULL UNION ALL SELECT ARRAY[1, 2])",
    "$ai IN (SELECT NULL UNION ALL SELECT '{1}'::integer[])",
    "$jb IN (SELECT NULL UNION ALL SELECT '{}'::jsonb)",
    "($i4, $t) IN (SELECT NULL, NULL UNION ALL SELECT z, word FROM other)",
    "$i4 = (SELECT max(z) FROM other WHERE word IN ('a', 'b'))",
    "$i4 > ALL (SELECT z FROM other WHERE z BETWEEN 1 AND 2 AND word <> 'x')",
    "ARRAY(SELECT z FROM other ORDER BY z DESC NULLS LAST LIMIT 3) = $ai",
    "ARRAY(SELECT 'x' UNION SELECT NULL) = $at",
    "(WITH q(one, two) AS (SELECT 1, 'a'::text) SELECT count(*) FROM q WHERE two IN ('a', 'b')) > 0",
    "(WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q WHERE n < 5) SELECT sum(n) FROM q) > 5",
    "$i4 IN (SELECT sub.x FROM (SELECT z AS x, NULL AS y FROM other) sub)",
    "$i4 IN (SELECT x FROM (VALUES (1, 'a'), (2, NULL)) AS l(x, y) WHERE y IN ('a', 'b'))",
    "$i4 IN (VALUES (1), (2), (NULL))",
    "$v IN (VALUES ('a'), ('b'))",
    "EXISTS (SELECT 1 FROM other a JOIN other b USING (z) LEFT JOIN other c ON a.z = c.z AND c.word IN ('a', 'b'))",
    "EXISTS (SELECT a.z, b.* FROM other a NATURAL JOIN other b WHERE a.z BETWEEN 1 AND 3 AND b.z > 1)",
    "EXISTS (SELECT word, count(*) FROM other GROUP BY word HAVING count(*) > 1 AND word IN ('a', 'b'))",
    "EXISTS (SELECT sum(z) OVER (PARTITION BY word ORDER BY z ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM other)",
    "EXISTS (SELECT z FROM other GROUP BY GROUPING SETS ((z), (word, z)) ORDER BY 1 LIMIT 2 OFFSET 1)",
    "EXISTS (SELECT DISTINCT ON (word) word, z FROM other ORDER BY word, z DESC)",
    "EXISTS (SELECT * FROM generate_series(1, $i4) WITH ORDINALITY AS g(a, b) WHERE a IN (1, 2))",
    "EXISTS (SELECT * FROM other o, LATERAL (SELECT o.z + 1 AS y, NULL AS n) l WHERE l.y = $i4)",
    "EXISTS (SELECT * FROM jsonb_to_recordset($jb) AS r(a integer, b text) WHERE b IN ('x', 'y'))",
    "EXISTS (SELECT count(*) FILTER (WHERE word IN ('a', 'b')), string_agg(word, ',' ORDER BY z) FROM other)",
    "EXISTS (SELECT CASE WHEN word IN ('a', 'b') THEN 1 END FROM other ORDER BY z FETCH FIRST 3 ROWS WITH TIES)",
    "EXISTS (SELECT CURRENT_DATE, CURRENT_TIMESTAMP(2), CURRENT_USER, LOCALTIME)",
    "EXISTS (SELECT 'a' COLLATE \"C\", 1::numeric(3,1), '5'::varchar(3), now()::date)",
    "EXISTS (SELECT coalesce(NULL, 'a'), CASE WHEN true THEN NULL END, ARRAY['a', NULL], ROW(1, 'a'))",
    "EXISTS (SELECT count(NULL), max('a'), 'a' || 'b', NOT true, 1 = 1, 1 IS NULL)",
)


def drawn(rng: random.Random, *, subqueries: bool = False) -> Iterator[str]:
    """Yield different expressions without end: those that were written by hand in any order, then random ones."""
    written = [*WRITTEN, *(SUBQUERIES if subqueries else ())]
    rng.shuffle(written)
    yield from written
    seen = set(written)
    while True:
        if (found := _compound(rng)) not in seen:
            seen.add(found)
            yield found


def _compound(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.55:
        return _simple(rng)
    first, second = _simple(rng), _simple(rng)
    word = rng.choice(("AND", "OR"))
    if kind < 0.75:
        return f"{first} {word} {second}"
    third = _simple(rng)
    return rng.choice(
        (
            f"({first} {word} {second}) {rng.choice(('AND', 'OR'))} {third}",
            f"{first} {word} ({second} {word} {third})",
            f"{first} {word} {second} {word} {third}",
            f"NOT ({first}) {word} NOT ({second} OR {third})",
            f"CASE WHEN {first} THEN {second} ELSE {third} END",
        )
    )


def _simple(rng: random.Random) -> str:
    column = rng.choice(COLUMNS)
    name, values = f"${column.name}", [rng.choice(column.values) for _ in range(4)]
    several = ", ".join(values[: rng.randint(2, 4)])
    forms = [
        f"{name} {rng.choice(('=', '<>', '<', '>='))} {values[0]}",
        f"{name} IS {rng.choice(('', 'NOT '))}DISTINCT FROM {values[0]}",
        f"{name} IS NOT NULL",
        f"coalesce({name}, {values[0]}) = {values[1]}",
        f"CASE {name} WHEN {values[0]} THEN true ELSE {name} > {values[1]} END",
        f"{name} BETWEEN {values[0]} AND {values[1]}",
        f"{name} NOT BETWEEN {values[0]} AND {values[1]}",
        f"nullif({name}, {values[0]}) IS NULL",
        f"greatest({name}, {values[0]}) = {name}",
        *(f"{name} {word} ({several})" for word in ("IN", "NOT IN", "IN", "NOT IN")),
        f"{name} = ANY (ARRAY[{several}]::{column.type}[])",
        f"{name} <> ALL (ARRAY[{several}]::{column.type}[])",
        f"{name} = ANY (ARRAY[{name}, {values[0]}])",
        f"{name} IN ({values[0]}, {name}, {values[1]})",
        f"ARRAY[{name}, {values[0]}] = ARRAY[{several}]::{column.type}[]",
        f"({name}, $i4) = ({values[0]}, 7)",
        f"{name}::text IN ('a', 'b')",
        f"{name}::varchar NOT IN ('a', 'b')",
    ]
    return rng.choice(forms)


_OTHER_OPERATORS: Final = {"=": "<>", "<>": "=", "<": "<=", ">": ">=", ">=": ">", "<=": "<", "+": "-", "~~": "!~~"}
_PIECES: Final = re.compile(
    r"(?P<column>\$\w+)|(?P<string>'(?:[^']|'')*')|(?P<number>(?<![\w.])\d+(?![\w.'+]))"
    r"|(?P<word>\b(?:AND|OR|NOT IN|IN|ANY|ALL|IS NOT NULL|IS NULL|true|false|LIKE|BETWEEN)\b)"
    r"|(?P<operator>(?<= )(?:<>|>=|<=|=|<|>|\+)(?= ))"
)
_OTHER_WORDS: Final = {
    "AND": "OR",
    "OR": "AND",
    "IN": "NOT IN",
    "NOT IN": "IN",
    "ANY": "ALL",
    "ALL": "ANY",
    "IS NULL": "IS NOT NULL",
    "IS NOT NULL": "IS NULL",
    "true": "false",
    "false": "true",
    "LIKE": "NOT LIKE",
    "BETWEEN": "NOT BETWEEN",
}


def changed(rng: random.Random, expression: str) -> Iterator[str]:
    """Yield the expression with one thing changed, another one each time."""
    pieces = list(_PIECES.finditer(expression))
    found = [f"NOT ({expression})", f"({expression}) IS TRUE", f"({expression}) AND $i4 = 999"]
    for piece in pieces:
        found += [
            expression[: piece.start()] + other + expression[piece.end() :]
            for other in _others(piece.lastgroup or "", piece[0])
        ]
    rng.shuffle(found)
    yield from found


def _others(kind: str, text: str) -> Iterator[str]:
    if kind == "column":
        same = [each.name for each in COLUMNS if each.type == _NAMED[text[1:]].type and each.name != text[1:]]
        yield from (f"${name}" for name in same)
        if _NAMED[text[1:]].type in {"varchar", "text", "code"}:
            yield f'({text} COLLATE "C")'
            yield f"{text}::varchar(3)"
            yield f"lower({text})"
        if _NAMED[text[1:]].type in {"integer", "numeric"}:
            yield f"{text}::bigint"
            yield f"(- {text})"
    elif kind == "string":
        yield f"{text[:-1]}1'"
        yield "'other'"
    elif kind == "number":
        yield f"{int(text) + 1}"
    elif kind == "operator":
        yield _OTHER_OPERATORS[text]
    else:
        yield _OTHER_WORDS[text]
