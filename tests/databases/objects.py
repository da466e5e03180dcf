"""Kinds of types, routines, views, sequences and whatever else a schema holds, at random."""

from typing import Final

from tests.databases.builder import Builder, Column, Kind, Table
from tests.databases.values import Type

_ATOMIC: Final = (
    "SELECT 1 AS a, 'END;' AS b",
    "SELECT CASE WHEN $1 > 0 THEN 'x; END' ELSE CASE $1 WHEN -1 THEN 'y' END END AS c",
    "SELECT count(*) FROM {table}",
    "SELECT * FROM {table}",
    "DELETE FROM {table} WHERE false",
)
_BODIES: Final = (
    "BEGIN RETURN NULL; END",
    "\nBEGIN\n  -- it's\n  RETURN $x$\nCOMMIT;\n\\.\n$x$;\nEND",
    "DECLARE x text := 'a\\b'; BEGIN PERFORM 1; RETURN x; EXCEPTION WHEN OTHERS THEN RETURN NULL; END",
)


def enum(b: Builder) -> None:
    """Make an enum, now and then with labels added out of order."""
    name = b.name("enum")
    if b.run(f"CREATE TYPE {name} AS ENUM ('b', 'it''s', 'two\nlines', '', '\\N')"):
        b.types.append(Type(name, ("'b'", "'it''s'", "'two\nlines'", "''", "'\\N'"), "key"))
        b.types.append(Type(f"{name}[]", ("'{b,NULL,\"\"}'", f"ARRAY['it''s']::{name}[]")))
        if b.chance(0.4):
            # A new label can't be used in the transaction that adds it.
            b.run(f"ALTER TYPE {name} ADD VALUE 'a' BEFORE 'b'", f"COMMENT ON TYPE {name} IS {b.text()}")


def domain(b: Builder) -> None:
    """Make a domain."""
    name, of = b.name("domain"), b.pick(b.types)
    words = [f"CREATE DOMAIN {name} AS {of.sql}"]
    if of.category == "text" and b.chance(0.3):
        words.append('COLLATE "C"')
    if b.chance(0.3):
        words.append(f"DEFAULT {b.pick(of.values)}")
    if b.chance(0.6):
        words.append(f"CONSTRAINT {b.bare('check')} CHECK (VALUE IS NOT NULL OR VALUE IS NULL)")
    if of.category and b.chance(0.3):
        words.append(f"CHECK (VALUE IN ({', '.join(of.values)}))")
    if b.run(" ".join(words)):
        b.types.append(Type(name, of.values, of.category))
        if b.chance(0.2):
            b.run(f"ALTER DOMAIN {name} ADD CONSTRAINT {b.bare('later')} CHECK (VALUE IS NULL) NOT VALID")


def composite(b: Builder) -> None:
    """Make a composite type."""
    name = b.name("pair")
    parts = [(b.bare("f"), b.pick(b.types)) for _ in range(b.random.randint(1, 3))]
    values = tuple(f"ROW({', '.join(b.value(type_) for _, type_ in parts)})::{name}" for _ in range(3))
    if b.run(f"CREATE TYPE {name} AS ({', '.join(f'{part} {type_.sql}' for part, type_ in parts)})"):
        b.types += [Type(name, (*values, "NULL")), Type(f"{name}[]", (f"ARRAY[{values[0]}]",))]
        if b.chance(0.2):
            b.run(f"ALTER TYPE {name} DROP ATTRIBUTE {parts[0][0]}", f"ALTER TYPE {name} ADD ATTRIBUTE z text")


def range_type(b: Builder) -> None:
    """Make a range type with its multirange."""
    name = b.name("range")
    subtype = b.pick(("text", "double precision, subtype_diff = float8mi", 'text, collation = "C"', "inet"))
    bound = {"d": "[1,2.5)", "i": "[10.0.0.1,10.0.0.9)"}.get(subtype[0], "[a,b)")
    if b.run(f"CREATE TYPE {name} AS RANGE (subtype = {subtype})"):
        b.types.append(Type(name, (f"'{bound}'", "'empty'"), "range"))


def sequence(b: Builder) -> None:
    """Make a sequence with all of its options, used or not."""
    name = b.name("seq")
    form = b.pick(
        (
            "",
            "AS smallint INCREMENT -3 MINVALUE -300 MAXVALUE -1 START -1 CACHE 5 CYCLE",
            "AS integer START 1000 MINVALUE 10",
            "INCREMENT 2 START 9223372036854775805 NO CYCLE",
            "NO MINVALUE MAXVALUE 7 CYCLE",
        )
    )
    unlogged = b.of_major(15, b.pick(("", "", "UNLOGGED ")))
    if not b.run(f"CREATE {unlogged}SEQUENCE {name} {form}"):
        return
    b.sequences.append(name)
    written = name.replace("'", "''")
    uses = [f"SELECT nextval('{written}')", f"SELECT nextval('{written}') FROM generate_series(1, 3)"]
    uses += [
        f"SELECT setval('{written}', 5, false)",
        f"SELECT setval('{written}', 6)",
        f"ALTER SEQUENCE {name} RESTART WITH 5",
    ]
    if b.chance(0.6):
        b.run(b.pick(uses))
    table = b.pick(b.tables) if b.tables else None
    if table and (numbers := table.having("number")) and b.chance(0.4):
        b.run(f"ALTER TABLE {table.name} ALTER COLUMN {numbers[0].name} SET DEFAULT nextval('{written}')")
        b.run(f"ALTER SEQUENCE {name} OWNED BY {table.name}.{numbers[0].name}")


def function(b: Builder) -> None:
    """Make functions: overloaded, with OUT and VARIADIC, defaults, SQL bodies, settings."""
    name, type_ = b.name("fn"), b.pick(b.types)
    table = b.table()
    value, null = b.pick(type_.values), f"NULL::{type_.sql}".replace("'", "''")
    atomic = "; ".join(b.some(_ATOMIC)).replace("{table}", table.name)
    body, whole = b.pick(_BODIES), table.name.replace("'", "''")
    sets = f"SET search_path TO {b.pick(b.schemas)}, pg_temp SET work_mem TO '1MB' SET DateStyle TO 'ISO, DMY'"
    percentile = "STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA"
    moving = "MSFUNC = int8pl, MINVFUNC = int8mi, MSTYPE = bigint, SORTOP = OPERATOR(pg_catalog.<)"
    forms = [
        f"FUNCTION {name}(a {type_.sql}) RETURNS {type_.sql} LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1'",
        f"FUNCTION {name}(integer, b text DEFAULT 'x;y') RETURNS text LANGUAGE plpgsql AS $b$ {body} $b$",
        f"FUNCTION {name}(a {type_.sql} DEFAULT {value}, OUT b {type_.sql}, OUT text) AS 'SELECT $1, 1' LANGUAGE sql",
        f"FUNCTION {name}(INOUT a {type_.sql}) LANGUAGE sql STABLE COST 9 AS 'SELECT $1'",
        f"FUNCTION {name}(VARIADIC rest text[] DEFAULT '{{}}') RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        f"FUNCTION {name}(n numeric) RETURNS TABLE (x text, y {type_.sql}) ROWS 3 AS 'SELECT 1, {null}' LANGUAGE sql",
        f"FUNCTION {name}(a integer) RETURNS SETOF record LANGUAGE sql BEGIN ATOMIC {atomic}; END",
        f"FUNCTION {name}(a integer) RETURNS bigint LANGUAGE sql BEGIN ATOMIC {atomic}; SELECT 1::bigint; END",
        f"FUNCTION {name}(a bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN a * 2",
        f"FUNCTION {name}(anyelement, OUT anyelement, OUT anyarray) LANGUAGE sql AS 'SELECT $1, ARRAY[$1]'",
        f"FUNCTION {name}() RETURNS SETOF {table.name} LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM {whole}'",
        f"FUNCTION {name}({table.name}) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::text'",
        f"FUNCTION {name}(a date) RETURNS date LANGUAGE sql {sets} LEAKPROOF AS 'SELECT $1'",
        f"PROCEDURE {name}(a integer) LANGUAGE plpgsql AS $b$ BEGIN COMMIT; END $b$",
        f"PROCEDURE {name}(a text, INOUT b integer DEFAULT 3) LANGUAGE plpgsql AS $b$ BEGIN NULL; END $b$",
        f"PROCEDURE {name}(OUT a {type_.sql}) LANGUAGE sql AS 'SELECT {null}'",
        f"PROCEDURE {name}(a integer, OUT b integer, OUT c text) LANGUAGE sql AS 'SELECT $1, NULL'",
        f"PROCEDURE {name}(VARIADIC a integer[]) LANGUAGE sql BEGIN ATOMIC {atomic.replace('$1', '1')}; END",
        f"AGGREGATE {name}(numeric) (SFUNC = numeric_add, STYPE = numeric, INITCOND = '0', PARALLEL = safe)",
        f"AGGREGATE {name}(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0', COMBINEFUNC = int8pl)",
        f"AGGREGATE {name}(VARIADIC text[]) (SFUNC = array_cat, STYPE = text[])",
        f"AGGREGATE {name}(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, {percentile})",
        f"AGGREGATE {name}(bigint) (SFUNC = int8pl, STYPE = bigint, {moving})",
    ]
    for form in b.some(forms, 4):
        if b.run(f"CREATE {form}"):
            b.routines.append(name)


def trigger_function(b: Builder) -> str:
    """Make a function for triggers, and return its name."""
    name = b.name("tg")
    b.run(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $b$ BEGIN RETURN NEW; END $b$")
    b.triggers.append(name)
    return name


def trigger(b: Builder) -> None:
    """Make a trigger: by row or statement, deferred, disabled, on partitions, on a view."""
    table, name = b.table(), b.bare("trigger")
    does = f"EXECUTE FUNCTION {b.pick(b.triggers) if b.triggers and b.chance(0.7) else trigger_function(b)}"
    arguments = b.pick(("()", "('it''s', 'two\nlines', '\\000')"))
    columns = ", ".join(each.name for each in b.some(table.columns)) if table.columns else ""
    of = f" OF {columns}" if columns and b.chance(0.5) else ""
    when = f" WHEN (NEW.{table.columns[0].name} IS NOT NULL)" if table.columns and b.chance(0.5) else ""
    forms = [
        f"TRIGGER {name} BEFORE INSERT OR UPDATE{of} ON {table.name} FOR EACH ROW{when}",
        f'TRIGGER {name} AFTER UPDATE ON {table.name} REFERENCING OLD TABLE AS o NEW TABLE AS "n;" FOR EACH STATEMENT',
        f"TRIGGER {name} AFTER INSERT OR DELETE OR TRUNCATE ON {table.name} FOR EACH STATEMENT",
        f"TRIGGER {name} AFTER INSERT ON {table.name} FOR EACH ROW{when}",
        f"CONSTRAINT TRIGGER {name} AFTER INSERT ON {table.name} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW{when}",
        f"CONSTRAINT TRIGGER {name} AFTER DELETE ON {table.name} FROM {b.table().name} FOR EACH ROW",
        *(f"TRIGGER {name} INSTEAD OF INSERT ON {each.name} FOR EACH ROW" for each in b.views[-1:]),
    ]
    if b.run(f"CREATE {b.pick(forms)} {does}{arguments}"):
        states = [f"{word} TRIGGER {name}" for word in ("DISABLE", "ENABLE REPLICA", "ENABLE ALWAYS")]
        parts = [each for each in b.tables if not each.partitioned and each.columns == table.columns]
        place = b.pick(parts) if table.partitioned and parts else table
        if b.chance(0.4):
            b.run(f"ALTER TABLE {place.name} {b.pick([*states, 'DISABLE TRIGGER USER', 'DISABLE TRIGGER ALL'])}")
        if b.chance(0.2):
            b.run(f"COMMENT ON TRIGGER {name} ON {table.name} IS {b.text()}")


def view(b: Builder) -> None:
    """Make a view of tables and other views."""
    one, two = (b.pick((*b.tables, *b.views, *b.materialized)) for _ in range(2))
    name = b.name("view")
    columns = tuple(Column(b.bare("v"), each.type) for each in one.columns)
    listed = f" ({', '.join(each.name for each in columns)})" if columns else ""
    selected = ", ".join(f"a.{each.name}" for each in one.columns)
    options = b.pick(("", "", " WITH (security_barrier)", b.of_major(15, " WITH (security_invoker = true)")))
    end = b.pick(("", "", "", " WITH LOCAL CHECK OPTION", " WITH CASCADED CHECK OPTION"))
    if not columns or b.chance(0.2):
        numbers = b.bare("n"), b.bare("many")
        b.run(
            b.pick(
                (
                    f"CREATE VIEW {name} ({numbers[0]}) AS SELECT count(*) FROM {one.name} a, {two.name} b",
                    f"CREATE VIEW {name} AS SELECT a FROM {one.name} a",
                    f"CREATE VIEW {name} AS SELECT a.*, b.tableoid AS {numbers[1]} FROM {one.name} a, {two.name} b",
                    f"CREATE VIEW {name} AS SELECT FROM {one.name}",
                    f"CREATE RECURSIVE VIEW {name} (n) AS VALUES (3) UNION ALL SELECT n - 1 FROM {name} WHERE n > 0",
                )
            )
        )
        return
    forms = [
        f"SELECT {selected} FROM {one.name} a",
        f"SELECT {selected} FROM {one.name} a WHERE a.{one.columns[0].name} IS NOT NULL",
        f"SELECT {selected} FROM {one.name} a LEFT JOIN {two.name} b ON true ORDER BY 1 LIMIT 5",
        f"SELECT DISTINCT {selected} FROM {one.name} a",
        f"SELECT {selected} FROM {one.name} a UNION ALL SELECT {', '.join('NULL' for _ in columns)}",
        f"WITH a AS MATERIALIZED (SELECT * FROM {one.name}) SELECT {selected} FROM a",
    ]
    if b.run(f"CREATE VIEW {name}{listed}{options} AS {b.pick(forms)}{end}"):
        b.views.append(Table(name, columns))
        if b.chance(0.2):
            b.run(f"ALTER VIEW {name} ALTER COLUMN {columns[0].name} SET DEFAULT {b.pick(columns[0].type.values)}")


def view_of_key(b: Builder) -> None:
    """Make a view that needs a primary key, and one in a circle with a function: pg_dump makes both in two steps."""
    table, of_key = b.name("keyed"), b.name("view")
    if b.run(
        f"CREATE TABLE {table} (id integer PRIMARY KEY, t text)",
        f"INSERT INTO {table} VALUES (1, 'x'), (2, NULL)",
        f"CREATE VIEW {of_key} AS SELECT id, t, count(*) AS n FROM {table} GROUP BY id",
    ):
        b.views.append(Table(of_key, (Column("id", b.types[0]),)))
        b.run(f"CREATE VIEW {b.name('over')} AS SELECT * FROM {of_key} WHERE n > 0")
    circle, function_ = b.name("circle"), b.name("fn")
    b.run(
        f"CREATE VIEW {circle} AS SELECT 1 AS a, 'x'::text AS b",
        f"CREATE FUNCTION {function_}() RETURNS SETOF {circle} LANGUAGE sql STABLE AS 'SELECT 1, ''y''::text'",
        f"CREATE OR REPLACE VIEW {circle} AS SELECT a, b FROM {function_}()",
    )


def materialized(b: Builder) -> None:
    """Make a materialized view, populated or not, also of another one."""
    one = b.pick((*b.tables, *b.views, *b.materialized))
    if not one.columns:
        return
    name, filled = b.name("mat"), b.pick(("", "", " WITH NO DATA"))
    selected = ", ".join(each.name for each in one.columns)
    if b.run(f"CREATE MATERIALIZED VIEW {name} AS SELECT {selected} FROM {one.name}{filled}"):
        b.materialized.append(Table(name, one.columns))


def rule(b: Builder) -> None:
    """Make a rule on a table or a view."""
    table, other, name = b.pick((*b.tables, *b.views)), b.table(), b.bare("rule")
    event = b.pick(("INSERT", "UPDATE", "DELETE"))
    does = b.pick(
        ("DO INSTEAD NOTHING", "DO ALSO NOTIFY \"chan;nel\", 'x'", f"DO ALSO DELETE FROM {other.name} WHERE false")
    )
    where = f" WHERE {'OLD' if event == 'DELETE' else 'NEW'}.{table.columns[0].name} IS NULL" if table.columns else ""
    if b.run(f"CREATE RULE {name} AS ON {event} TO {table.name}{b.pick(('', where))} {does}") and b.chance(0.3):
        b.run(f"ALTER TABLE {table.name} {b.pick(('DISABLE', 'ENABLE ALWAYS', 'ENABLE REPLICA'))} RULE {name}")


def policy(b: Builder) -> None:
    """Make a policy; row security is on, off or forced."""
    table, other, name = b.table(), b.table(), b.bare("policy")
    test = b.pick(("true", f"EXISTS (SELECT FROM {other.name})", "CURRENT_USER = 'x'"))
    if table.columns:
        test = b.pick((test, f"{table.columns[0].name} IS NOT NULL"))
    command = b.pick(("ALL", "SELECT", "UPDATE", "DELETE"))
    check = f" WITH CHECK ({test})" if command in {"ALL", "UPDATE"} and b.chance(0.5) else ""
    how = b.pick(("", " AS RESTRICTIVE"))
    b.run(f"CREATE POLICY {name} ON {table.name}{how} FOR {command} TO {b.role()} USING ({test}){check}")
    if b.chance(0.5):
        b.run(f"ALTER TABLE {table.name} {b.pick(('ENABLE', 'FORCE'))} ROW LEVEL SECURITY")


def statistics(b: Builder) -> None:
    """Make a statistics object."""
    table, name = b.table(), b.name("stat")
    if len(table.columns) > 1:
        columns = ", ".join(each.name for each in b.random.sample(table.columns, 2))
        kinds = b.pick(("", " (ndistinct)", " (mcv, dependencies)"))
        if b.run(
            b.pick(
                (
                    f"CREATE STATISTICS {name}{kinds} ON {columns} FROM {table.name}",
                    f"CREATE STATISTICS {name} ON ({table.columns[0].name} IS NULL) FROM {table.name}",
                )
            )
        ) and b.chance(0.3):
            b.run(f"ALTER STATISTICS {name} SET STATISTICS 55")


def operator(b: Builder) -> None:
    """Make an operator with its function, and a cast."""
    name, schema = b.name("fn"), b.pick(b.schemas)
    type_ = b.pick([each for each in b.types if not each.sql.endswith("]")])
    sign = b.pick(("===", "<->>", "@#@", "~~~~", "|&|"))
    b.run(
        f"CREATE FUNCTION {name}({type_.sql}, {type_.sql}) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        f"CREATE OPERATOR {schema}.{sign} (LEFTARG = {type_.sql}, RIGHTARG = {type_.sql}, FUNCTION = {name}, "
        f"COMMUTATOR = OPERATOR({schema}.{sign}), RESTRICT = eqsel)",
    )
    if type_.sql.startswith(tuple(b.schemas)):
        cast = b.name("cast")
        b.run(
            f"CREATE FUNCTION {cast}({type_.sql}) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
            f"CREATE CAST ({type_.sql} AS integer) WITH FUNCTION {cast}({type_.sql}) {b.pick(('', 'AS ASSIGNMENT'))}",
        )


def text_search(b: Builder) -> None:
    """Make a text search dictionary and configuration."""
    dictionary, configuration = b.name("dict"), b.name("conf")
    b.run(
        f"CREATE TEXT SEARCH DICTIONARY {dictionary} (TEMPLATE = snowball, LANGUAGE = english, STOPWORDS = english)",
        f"CREATE TEXT SEARCH CONFIGURATION {configuration} (COPY = pg_catalog.english)",
        f"ALTER TEXT SEARCH CONFIGURATION {configuration} ALTER MAPPING FOR asciiword WITH {dictionary}, simple",
        f"ALTER TEXT SEARCH CONFIGURATION {configuration} DROP MAPPING FOR email",
    )


def collation(b: Builder) -> None:
    """Make a collation, and a conversion."""
    name = b.name("coll")
    if b.run(f"CREATE COLLATION {name} (locale = '{b.pick(('C', 'POSIX'))}')"):
        b.types.append(Type(f"text COLLATE {name}", ("'a'", "'B'")))
    if b.chance(0.2):
        b.run(f"CREATE CONVERSION {b.name('conv')} FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8")


KINDS: Final[dict[str, tuple[Kind, int]]] = {
    "enum": (enum, 2),
    "domain": (domain, 3),
    "composite type": (composite, 2),
    "range type": (range_type, 1),
    "sequence": (sequence, 3),
    "functions": (function, 5),
    "trigger": (trigger, 4),
    "view": (view, 5),
    "view in two steps": (view_of_key, 1),
    "materialized view": (materialized, 3),
    "rule": (rule, 2),
    "policy": (policy, 3),
    "statistics": (statistics, 2),
    "operator and cast": (operator, 1),
    "text search": (text_search, 1),
    "collation": (collation, 1),
}
