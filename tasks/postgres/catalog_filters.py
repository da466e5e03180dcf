"""Catalogues, and SQL conditions that exclude PostgreSQL's own objects and those of extensions."""

from __future__ import annotations

from typing import LiteralString

# The catalogues whose objects lie in a schema, each with the prefix of its columns.
IN_SCHEMA: tuple[tuple[LiteralString, LiteralString], ...] = (
    *(("pg_class", "rel"), ("pg_type", "typ"), ("pg_proc", "pro"), ("pg_constraint", "con"), ("pg_operator", "opr")),
    *(("pg_opclass", "opc"), ("pg_opfamily", "opf"), ("pg_collation", "coll"), ("pg_conversion", "con")),
    *(("pg_statistic_ext", "stx"), ("pg_ts_config", "cfg"), ("pg_ts_dict", "dict"), ("pg_ts_parser", "prs")),
    ("pg_ts_template", "tmpl"),
)
# For `n`, a row of pg_namespace.
USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
# For `c`, a row of pg_class: a standby can't read unlogged tables and sequences.
READABLE = "(c.relpersistence <> 'u' OR NOT pg_catalog.pg_is_in_recovery())"
# For `t`, a row of pg_type: joins the types `p.typid` whose values its values hold.
PARTS_OF_TYPE = """CROSS JOIN LATERAL (SELECT t.typbasetype UNION ALL SELECT t.typelem
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) p(typid)
WHERE p.typid <> 0"""


def no_member(catalogue: LiteralString, oid: LiteralString) -> LiteralString:
    """Return the condition that an object belongs to no extension.

    :param catalogue: The object's catalogue, without a schema: `pg_proc`.
    :param oid: The object's oid, as SQL.
    """
    return no_member_of_class(f"'pg_catalog.{catalogue}'::pg_catalog.regclass", oid)


def no_member_of_class(classid: LiteralString, oid: LiteralString) -> LiteralString:
    """Return the condition that an object belongs to no extension.

    :param classid: The oid of the object's catalogue, as SQL.
    :param oid: The object's oid, as SQL.
    """
    return (
        f"NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
        f" WHERE d.classid = {classid} AND d.objid = {oid} AND d.deptype = 'e')"
    )


# For `c`, a row of pg_class.
NO_MEMBER = no_member("pg_class", "c.oid")


def global_name(kind: str, identity: str) -> str:
    """Return the name of an object without a schema as in a dump's outline, such as `event trigger audit`.

    :param identity: As `pg_identify_object` returns it.
    """
    name = identity.replace('"', "")
    if kind == "transform":
        # Before 16 it has a word that SQL does not accept.
        name = name.replace(" on language ", " language ")
    # It has the schema of some of PostgreSQL's own types, and pg_dump writes none.
    return f"{kind} {name.replace('pg_catalog.', '') if kind == 'cast' else name}"
