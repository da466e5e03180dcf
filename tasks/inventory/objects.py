"""Definitions of all objects of a database that pg_dump selects, in a form that can be compared.

A definition has structural facts, as a digest, and texts: expressions and queries as the server writes them, in their
canonical form (:mod:`.canonical`), because PostgreSQL rewrites them on reload. The facts and most texts are the same on
PostgreSQL 14 to 18 for the same object. Some texts (`bodies`: of views, rules and SQL-standard functions) change from
major to major, so they are compared only between servers of one major.

Not selected, as in a dump: members of extensions, internal and inherited constraints and triggers, invalid indexes and
the keys that need them, operators without a function, and NOT NULL. 18 lists NOT NULL among the constraints; here it is
in the digest of the columns.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from ..postgres.catalog_filters import USER_SCHEMA, no_member
from ..postgres.system_grants import DESCRIBED
from .canonical import canonical
from .definition_parts import DEFINITION, DETAILS, join_parts
from .existing_kinds import read_existing_kinds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..postgres.connection import Connection


# Settings that change deparsed expressions and values. Every session that reads definitions sets them.
PINNED = {
    "search_path": "",
    "quote_all_identifiers": "off",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
}
_DIGEST_BYTES = 12

# Marks around the parts in the result of a query. They are random, so that no text of users contains them.
_NONCE = secrets.token_hex(8)
# Text up to the next mark.
_UNMARKED = rf"[^<]*(?:<(?!{_NONCE})[^<]*)*"
_PART = re.compile(
    rf"<{_NONCE}(?P<kind>[a-z])(?P<label>{_UNMARKED})<{_NONCE}:(?P<content>{_UNMARKED})<{_NONCE}>".encode()
)
# Marks around named facts, which may contain marked parts. The names are not in the digests.
_OPENING, _CLOSING = rf"<{_NONCE}\[(?P<label>{_UNMARKED})<{_NONCE}:", rf"<{_NONCE}\]>"
_NAMED = re.compile(rf"{_OPENING}(?P<content>[^<]*(?:<(?!{_NONCE}[\[\]])[^<]*)*){_CLOSING}".encode())


def _marked(kind: str, expression: str, label: str = "''") -> str:
    begin = f"pg_catalog.concat('<{_NONCE}{kind}', {label}, '<{_NONCE}:')"
    return f"({begin} || ({expression})::pg_catalog.text || '<{_NONCE}>')"


def _text(expression: str, label: str = "''") -> str:
    """Return SQL that marks a text; NULL remains NULL.

    :param label: SQL of the tokens to put before the text.
    """
    return _marked("t", expression, label)


def _newer_text(expression: str, label: str = "''") -> str:
    """Return SQL that marks a text that the digests of format 1 do not cover."""
    return _marked("n", expression, label)


def _newer_fact(expression: str) -> str:
    """Return SQL that marks structural facts that the digests of format 1 do not cover; NULL becomes empty."""
    return _marked("f", f"pg_catalog.concat({expression})")


def _older(expression: str) -> str:
    """Return SQL that marks a part that only the digests of format 1 cover."""
    return _marked("o", expression)


def _recomputed(older: str, newer: str) -> str:
    """Return SQL that marks a fact that the digests of format 1 cover in another form."""
    return f"{_older(older)} || {_newer_fact(newer)}"


def _part(label: str, expression: str, of: str = "''") -> str:
    """Return SQL that marks facts that messages show by name; NULL remains NULL.

    :param label: A label of :mod:`.definition_parts`.
    :param of: SQL of the name, for people, of the part that the facts belong to.
    """
    return f"('<{_NONCE}[{label}|' || {of} || '<{_NONCE}:' || ({expression})::pg_catalog.text || '<{_NONCE}]>')"


def _flag(label: str, expression: str, of: str = "''") -> str:
    """Return SQL that marks a boolean, as `t` or `f`."""
    return _part(label, f"pg_catalog.concat({expression})", of)


def _definition(text: str, is_fact: str, facts: str, label: str = "definition") -> str:
    """Return SQL that marks a definition: as a fact if a condition holds, else as a text and facts."""
    return f"CASE WHEN {is_fact} THEN {_part(label, text)} ELSE {_text(text)} || {_newer_fact(facts)} END"


def part_of(table: LiteralString, name: LiteralString) -> LiteralString:
    """Return SQL of the identity of a table's column, constraint, trigger …, from the table's oid and the name."""
    return f"pg_catalog.concat_ws('.', {table}::pg_catalog.regclass::pg_catalog.text, pg_catalog.quote_ident({name}))"


def of_users(catalogue: LiteralString, oid: LiteralString, schema: LiteralString) -> LiteralString:
    """Return the SQL condition for objects of users: neither PostgreSQL's nor an extension's.

    :param schema: SQL of the oid of the object's schema.
    """
    user_schema = f"{schema} IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA})"
    return f"{user_schema} AND {no_member(catalogue, oid)}"


_SCHEMA = f"{USER_SCHEMA} AND {no_member('pg_namespace', 'n.oid')}"
RELATION = of_users("pg_class", "c.oid", "c.relnamespace")
ROUTINE = of_users("pg_proc", "p.oid", "p.pronamespace")
_TYPE = of_users("pg_type", "t.oid", "t.typnamespace")
# A dump has neither objects that come with another one (a range's constructors and multirange) nor their grants.
_NOT_INTERNAL = """NOT EXISTS (SELECT FROM pg_catalog.pg_depend i
    WHERE i.classid = 'pg_catalog.{0}'::pg_catalog.regclass AND i.objid = {1} AND i.deptype = 'i')"""
# pg_dump leaves out invalid indexes, except those of partitioned tables.
_DUMPED_INDEX = "i.indisready AND (i.indisvalid OR c.relkind = 'p')"
# A key is left out with its index.
_DUMPED_KEY = f"""(k.contype NOT IN ('p', 'u', 'x') OR EXISTS (SELECT FROM pg_catalog.pg_index i
    WHERE i.indexrelid = k.conindid AND {_DUMPED_INDEX}))"""
# pg_dump writes REPLICA IDENTITY with its index, so it is left out with the index.
_REPLICA_IDENTITY = f"""CASE WHEN c.relreplident <> 'i' OR EXISTS (SELECT FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND i.indisreplident AND {_DUMPED_INDEX}) THEN c.relreplident ELSE 'd' END"""
# An index of a partitioned table is valid once all partitions have an attached index.
_COMPLETE = """c.relkind <> 'p'
    OR (SELECT pg_catalog.count(*) FROM pg_catalog.pg_partition_tree(i.indrelid))
     = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_partition_tree(i.indexrelid) y
          JOIN pg_catalog.pg_index x ON x.indexrelid = y.relid WHERE NOT y.isleaf OR x.indisvalid AND x.indisready)"""


def _key_columns(prefix: str, numbers: str, table: str, options: str = "NULL") -> str:
    """Return SQL of the columns of a key, each with its operator class, its collation and its options.

    :param prefix: How the names of the columns of the key's catalogue begin.
    """
    return f"""(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ',
                coalesce(pg_catalog.quote_ident(a.attname), '()'),
                pg_catalog.concat_ws('.', pg_catalog.quote_ident(s.nspname), pg_catalog.quote_ident(o.opcname)),
                nullif({prefix}collation[at], 0)::pg_catalog.regcollation, {options}), ',' ORDER BY at)
       FROM pg_catalog.generate_subscripts({numbers}, 1) AS at
       LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = {table} AND a.attnum = {numbers}[at]
       LEFT JOIN pg_catalog.pg_opclass o ON o.oid = {prefix}class[at]
       LEFT JOIN pg_catalog.pg_namespace s ON s.oid = o.opcnamespace)"""


_INDEX_FACTS = f"""pg_catalog.concat_ws(' ', i.indisunique, i.indisprimary, i.indisexclusion, i.indimmediate,
    i.indnkeyatts, nullif(pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct', 'false'),
    (SELECT pg_catalog.concat_ws(' ', m.amname, r.reloptions) FROM pg_catalog.pg_class r
       JOIN pg_catalog.pg_am m ON m.oid = r.relam WHERE r.oid = i.indexrelid),
    {_key_columns("i.ind", "i.indkey", "i.indrelid", "i.indoption[at]")})"""
_NO_EXPRESSION = "i.indexprs IS NULL AND i.indpred IS NULL"
_NO_CHECK = "k.contype NOT IN ('c', 'x')"
# The words after the last bracket, which are no expression: NO INHERIT, NOT VALID, DEFERRABLE …
_BEHIND_CHECK = "pg_catalog.substring(pg_catalog.pg_get_constraintdef(k.oid), '[^)]*$')"
_CONSTRAINT_FACTS = f"""pg_catalog.concat_ws(' ', k.contype, {_BEHIND_CHECK},
    (SELECT pg_catalog.concat_ws(' ', {_INDEX_FACTS}, k.conexclop::pg_catalog.regoperator[])
       FROM pg_catalog.pg_index i WHERE i.indexrelid = k.conindid))"""
_TRIGGER_FACTS = """pg_catalog.concat_ws(' ', g.tgtype, g.tgfoid::pg_catalog.regprocedure,
    pg_catalog.encode(g.tgargs, 'hex'), g.tgdeferrable, g.tginitdeferred,
    nullif(g.tgconstrrelid, 0)::pg_catalog.regclass, g.tgoldtable, g.tgnewtable,
    (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY a.attname COLLATE "C")
       FROM pg_catalog.pg_attribute a WHERE a.attrelid = g.tgrelid AND a.attnum = ANY(g.tgattr::pg_catalog.int2[])))"""
_PARTITION_FACTS = f"""(SELECT pg_catalog.concat_ws(' ', p.partstrat, {_key_columns("p.part", "p.partattrs", "c.oid")})
      FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = c.oid)"""
_PARTITION_KEY = f"""CASE WHEN c.relkind <> 'p' THEN NULL
    WHEN EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partexprs IS NULL)
    THEN {_part("partition key", "pg_catalog.pg_get_partkeydef(c.oid)")}
    ELSE {_text("pg_catalog.pg_get_partkeydef(c.oid)", "'PARTITION BY '")} || {_newer_fact(_PARTITION_FACTS)} END"""
# pg_dump also leaves a materialized view without rows if it reads such a materialized view.
_POPULATED = """c.relkind = 'v' OR NOT EXISTS (
    WITH RECURSIVE needed(oid) AS (
        SELECT c.oid
         UNION
        SELECT d.refobjid FROM needed n JOIN pg_catalog.pg_rewrite r ON r.ev_class = n.oid
          JOIN pg_catalog.pg_depend d ON d.objid = r.oid
         WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
    SELECT FROM needed n JOIN pg_catalog.pg_class m ON m.oid = n.oid WHERE m.relkind = 'm' AND NOT m.relispopulated)"""
_OWNED_BY = """(SELECT pg_catalog.concat_ws(' ', o.deptype, o.refobjid::pg_catalog.regclass,
               pg_catalog.quote_ident(a.attname))
          FROM pg_catalog.pg_depend o
          JOIN pg_catalog.pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
         WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = c.oid AND o.deptype IN ('a', 'i')
           AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"""
_OF_DUMPED = no_member("pg_class", "o.refobjid")
# The column of an identity sequence. A dump creates the sequence with the column's type; CREATE TABLE … (LIKE …)
# may have given it another type.
_IDENTITY = """pg_catalog.pg_depend o
          JOIN pg_catalog.pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
            ON o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = c.oid AND o.deptype = 'i'
           AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"""


def _sequence_bound(of: str) -> str:
    """Return SQL of a bound, `max` or `min`, after a reload. A dump leaves out a bound that is the type's."""
    most = "CASE {} WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 ELSE 9223372036854775807 END"
    sign, further = ("", "") if of == "max" else ("-", " - 1")
    own, dumped = (f"{sign}{most.format(each)}{further}" for each in ("s.seqtypid", "coalesce(a.atttypid, s.seqtypid)"))
    return f"CASE WHEN s.seq{of} = {own} THEN {dumped} ELSE s.seq{of} END"


# A partition inherits its table's identity. After a reload, a partition of a partition has none: it is attached first.
_OWN_IDENTITY = "CASE WHEN NOT c.relispartition THEN a.attidentity END"
_STATISTICS_FACTS = """pg_catalog.concat_ws(' ', s.stxrelid::pg_catalog.regclass, s.stxkind,
    (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY a.attname COLLATE "C")
       FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = s.stxrelid AND a.attnum = ANY(s.stxkeys::pg_catalog.int2[])))"""
_STATISTICS_TEXT = "pg_catalog.array_to_string(pg_catalog.pg_get_statisticsobjdef_expressions(s.oid), ', ')"
_ARGUMENTS = _definition(
    "pg_catalog.pg_get_function_arguments(p.oid)",
    "p.pronargdefaults = 0",
    "pg_catalog.pg_get_function_identity_arguments(p.oid), ' ', p.pronargdefaults",
    label="arguments",
)
# The default of a domain. `typdefault` depends on the search_path of the session that created it.
_DOMAIN_DEFAULT = "pg_catalog.pg_get_expr(t.typdefaultbin, 0)"
# The labels of a publication's row filter, of a column's default and of a domain's constraint.
_ROW_FILTER = "r.prrelid::pg_catalog.regclass || ' WHERE '"
_DEFAULT = "pg_catalog.quote_ident(a.attname) || ' DEFAULT '"
_CONSTRAINT_NAME = "pg_catalog.quote_ident(k.conname) || ' '"
_COLUMN = """'column "' || pg_catalog.replace(a.attname, '"', '""') || '"'"""
_COLUMN_COLLATION = "CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::pg_catalog.regcollation END"
_COLUMN_TYPE = _part("type", "pg_catalog.format_type(a.atttypid, a.atttypmod)", _COLUMN)

_POLICY_ROLES = """SELECT pg_catalog.string_agg(r.rolname, ',' ORDER BY r.rolname COLLATE "C")
    FROM pg_catalog.pg_roles r WHERE r.oid = ANY(p.polroles)"""
_DOMAIN_CHECK = _flag("validity", "k.convalidated", """'constraint "' || k.conname || '"'""")
_LABELS = """SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
    FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid"""
_PARENTS = """SELECT pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::pg_catalog.text, ', ' ORDER BY i.inhseqno)
    FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid"""
_FOREIGN_SERVER = """SELECT pg_catalog.concat_ws(' ', 'SERVER', pg_catalog.quote_ident(s.srvname), x.ftoptions)
    FROM pg_catalog.pg_foreign_table x JOIN pg_catalog.pg_foreign_server s ON s.oid = x.ftserver
   WHERE x.ftrelid = c.oid"""

# Each query returns the name, the marked parts that are the same on every major, and those that depend on it, or NULL.
DEFINITIONS: dict[str, str] = {
    "schema": f"""
        SELECT pg_catalog.quote_ident(n.nspname), '', NULL FROM pg_catalog.pg_namespace n
         WHERE {_SCHEMA}""",
    "table": f"""
        SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|', {_part("kind", "c.relkind")}, {_part("persistence", "c.relpersistence")},
                   {_flag("row security", "c.relrowsecurity")},
                   {_flag("row security for the owner", "c.relforcerowsecurity")},
                   {_part("replica identity", _recomputed("c.relreplident", _REPLICA_IDENTITY))},
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
                       {_COLUMN_TYPE}, {_flag("not null", "a.attnotnull", _COLUMN)},
                               {_part("identity", _recomputed("a.attidentity", _OWN_IDENTITY), _COLUMN)},
                               {_part("generated", "a.attgenerated", _COLUMN)},
                               {_text("pg_catalog.pg_get_expr(f.adbin, f.adrelid)", _DEFAULT)},
                               {_part("collate", _COLUMN_COLLATION, _COLUMN)},
                               {_part("options", "a.attfdwoptions", _COLUMN)}),
                               ', ' ORDER BY a.attname COLLATE "C")
                      FROM pg_catalog.pg_attribute a
                      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                      LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                   {_part("parent", _PARENTS)},
                   {_part("partition bound", "pg_catalog.pg_get_expr(c.relpartbound, c.oid)")},
                   {_PARTITION_KEY},
                   {_part("type of the table", "'OF ' || nullif(c.reloftype, 0)::pg_catalog.regtype")},
                   {_part("foreign server", _FOREIGN_SERVER)}),
               NULL
          FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'f') AND {RELATION}""",
    "view": f"""
        SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|', {_part("kind", "c.relkind")},
                   {_part("options", "pg_catalog.array_to_string(c.reloptions, ',')")},
                   {_part("populated", _recomputed("pg_catalog.concat(c.relispopulated)", _POPULATED))},
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
                       {_COLUMN_TYPE},
                               {_text("pg_catalog.pg_get_expr(f.adbin, f.adrelid)", _DEFAULT)}), ', ' ORDER BY a.attnum)
                      FROM pg_catalog.pg_attribute a
                      LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
               {_text("pg_catalog.pg_get_viewdef(c.oid)")}
          FROM pg_catalog.pg_class c WHERE c.relkind IN ('v', 'm') AND {RELATION}""",
    "index": f"""
        SELECT i.indexrelid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|',
                   {_definition("pg_catalog.pg_get_indexdef(i.indexrelid)", _NO_EXPRESSION, _INDEX_FACTS)},
                   {_part("validity", _recomputed("pg_catalog.concat(i.indisvalid)", _COMPLETE))},
                   {_flag("CLUSTER", "i.indisclustered")}, {_flag("REPLICA IDENTITY", "i.indisreplident")}),
               NULL
          FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
         WHERE {RELATION} AND {_DUMPED_INDEX}
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)""",
    "constraint": f"""
        SELECT {part_of("k.conrelid", "k.conname")},
               pg_catalog.concat_ws('|',
                   {_definition("pg_catalog.pg_get_constraintdef(k.oid)", _NO_CHECK, _CONSTRAINT_FACTS)},
                   {_flag("validity", "k.convalidated")}), NULL
          FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
         WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conparentid = 0 AND k.conislocal
           AND {RELATION} AND {_DUMPED_KEY}""",
    "sequence": f"""
        SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|',
                   {_part("type", "pg_catalog.format_type(coalesce(a.atttypid, s.seqtypid), NULL)")},
                   {_part("START", "s.seqstart")}, {_part("INCREMENT", "s.seqincrement")},
                   {_part("MAXVALUE", _sequence_bound("max"))}, {_part("MINVALUE", _sequence_bound("min"))},
                   {_part("CACHE", "s.seqcache")}, {_flag("CYCLE", "s.seqcycle")})
               || coalesce({_older(f"'|' || {_OWNED_BY})")}, '')
               || {_part("OWNED BY", _newer_fact(f"{_OWNED_BY} AND {_OF_DUMPED})"))},
               NULL
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid LEFT JOIN {_IDENTITY}
         WHERE {RELATION}""",
    "trigger": f"""
        SELECT {part_of("g.tgrelid", "g.tgname")},
               pg_catalog.concat_ws('|', {_part("state", "g.tgenabled")},
                   {_definition("pg_catalog.pg_get_triggerdef(g.oid)", "g.tgqual IS NULL", _TRIGGER_FACTS)}), NULL
          FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
          LEFT JOIN pg_catalog.pg_trigger u ON u.oid = g.tgparentid
          LEFT JOIN pg_catalog.pg_constraint k ON k.oid = g.tgconstraint
         WHERE {RELATION} AND (NOT g.tgisinternal AND g.tgparentid = 0
                OR g.tgenabled <> u.tgenabled AND k.contype IS DISTINCT FROM 'f')""",
    "policy": f"""
        SELECT {part_of("p.polrelid", "p.polname")},
               pg_catalog.concat_ws('|', {_part("command", "p.polcmd")}, {_flag("mode", "p.polpermissive")},
                   {_part("roles", _POLICY_ROLES)},
                   {_text("pg_catalog.pg_get_expr(p.polqual, p.polrelid)", "'USING '")},
                   {_text("pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)", "'WITH CHECK '")}),
               NULL
          FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE {RELATION}""",
    "rule": f"""
        SELECT {part_of("w.ev_class", "w.rulename")},
               pg_catalog.concat_ws('|', {_part("event", "w.ev_type")}, {_flag("INSTEAD", "w.is_instead")},
                   {_part("state", "w.ev_enabled")}),
                   {_text("pg_catalog.pg_get_ruledef(w.oid)")}
          FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
         WHERE w.rulename <> '_RETURN' AND {RELATION}""",
    "function": f"""
        SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text,
               pg_catalog.concat_ws('|', {_part("routine", "p.prokind")}, {_part("language", "l.lanname")},
                   {_part("volatility", "p.provolatile")}, {_flag("STRICT", "p.proisstrict")},
                   {_flag("SECURITY DEFINER", "p.prosecdef")}, {_flag("LEAKPROOF", "p.proleakproof")},
                   {_part("parallel safety", "p.proparallel")}, {_ARGUMENTS},
                   {_part("result", "pg_catalog.pg_get_function_result(p.oid)")},
                   {_part("settings", "pg_catalog.array_to_string(p.proconfig, ',')")},
                   {_part("body", "CASE WHEN p.prosqlbody IS NULL THEN p.prosrc END")},
                   {_part("library", "p.probin")},
                   (SELECT pg_catalog.concat_ws(' ', g.aggkind, g.aggnumdirectargs, g.aggtransfn, g.aggfinalfn,
                       g.aggfinalextra,
                               g.aggfinalmodify, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn,
                               g.aggtranstype::pg_catalog.regtype, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn,
                               g.aggmtranstype::pg_catalog.regtype, g.aggsortop::pg_catalog.regoperator,
                                   'INIT ' || g.agginitval,
                               'MINIT ' || g.aggminitval)
                      FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid)),
               {_text("pg_catalog.pg_get_function_sqlbody(p.oid)")}
          FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
         WHERE {ROUTINE} AND {_NOT_INTERNAL.format("pg_proc", "p.oid")}""",
    "type": f"""
        SELECT t.oid::pg_catalog.regtype::pg_catalog.text,
               pg_catalog.concat_ws('|', {_part("type kind", "t.typtype")}, {_part("labels", _LABELS)},
                   CASE WHEN t.typtype = 'd' THEN pg_catalog.concat_ws(' ',
                       {_part("type", "pg_catalog.format_type(t.typbasetype, t.typtypmod)", "'base type'")},
                       {_flag("not null", "t.typnotnull", "'base type'")},
                       {_older("t.typdefault")} || {_newer_text(_DOMAIN_DEFAULT, "'DEFAULT '")},
                       {_part("collate", "nullif(t.typcollation, 0)::pg_catalog.regcollation", "'base type'")},
                       (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(k.conname),
                                   {_text("pg_catalog.pg_get_constraintdef(k.oid)", _CONSTRAINT_NAME)}
                                   || {_newer_fact(_BEHIND_CHECK)}, {_DOMAIN_CHECK}), ','
                               ORDER BY k.conname COLLATE "C")
                          FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) END,
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
                       {_COLUMN_TYPE}), ','
                               ORDER BY a.attnum)
                      FROM pg_catalog.pg_attribute a
                     WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
                   (SELECT pg_catalog.concat_ws(' ', pg_catalog.format_type(r.rngsubtype, NULL),
                       nullif(r.rngcollation, 0)::pg_catalog.regcollation,
                               r.rngcanonical, r.rngsubdiff) FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid),
                   CASE WHEN t.typtype = 'b' THEN pg_catalog.concat_ws(' ', t.typinput, t.typoutput, t.typlen,
                       t.typbyval,
                       t.typalign, t.typcategory, t.typdelim, t.typdefault) END),
               NULL
          FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
         WHERE (c.oid IS NULL OR c.relkind = 'c') AND {_TYPE} AND {_NOT_INTERNAL.format("pg_type", "t.oid")}""",
    "operator": f"""
        SELECT o.oid::pg_catalog.regoperator::pg_catalog.text, pg_catalog.concat_ws('|', o.oprcode,
            o.oprcom::pg_catalog.regoperator, o.oprnegate::pg_catalog.regoperator,
                   o.oprcanmerge, o.oprcanhash, o.oprrest, o.oprjoin), NULL
          FROM pg_catalog.pg_operator o
         WHERE o.oprcode <> 0 AND {of_users("pg_operator", "o.oid", "o.oprnamespace")}""",
    "statistics": f"""
        SELECT pg_catalog.format('%I.%I', n.nspname, s.stxname), {_newer_fact(_STATISTICS_FACTS)},
               {_older("pg_catalog.pg_get_statisticsobjdef(s.oid)")} || coalesce({_newer_text(_STATISTICS_TEXT)}, '')
          FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
         WHERE {of_users("pg_statistic_ext", "s.oid", "s.stxnamespace")}
           AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = s.stxrelid AND {RELATION})""",
    "collation": f"""
        SELECT pg_catalog.format('%I.%I', n.nspname, l.collname), pg_catalog.concat_ws('|', l.collprovider,
            l.collisdeterministic),
               pg_catalog.to_jsonb(l) - ARRAY['oid', 'collname', 'collnamespace', 'collowner', 'collversion']
          FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
         WHERE {of_users("pg_collation", "l.oid", "l.collnamespace")}""",
    "large object": """
        SELECT m.oid::pg_catalog.text, '', NULL FROM pg_catalog.pg_largeobject_metadata m""",
    "event trigger": f"""
        SELECT pg_catalog.quote_ident(e.evtname), pg_catalog.concat_ws('|', {_part("event", "e.evtevent")},
            {_part("state", "e.evtenabled")}, {_part("function", "e.evtfoid::pg_catalog.regproc")},
                   {_part("tags", "pg_catalog.array_to_string(e.evttags, ',')")}), NULL
          FROM pg_catalog.pg_event_trigger e
         WHERE {no_member("pg_event_trigger", "e.oid")}""",
    "publication": f"""
        SELECT pg_catalog.quote_ident(p.pubname), pg_catalog.concat_ws('|', p.puballtables, p.pubinsert, p.pubupdate,
            p.pubdelete,
                   p.pubtruncate, pg_catalog.concat(p.pubviaroot)
                   || {_newer_fact("nullif(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n')")},
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.prrelid::pg_catalog.regclass,
                               (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attname COLLATE "C")
                                  FROM pg_catalog.pg_attribute a
                                 WHERE a.attrelid = r.prrelid
                                     AND pg_catalog.to_jsonb(r) -> 'prattrs' @> pg_catalog.to_jsonb(a.attnum)),
                               CASE WHEN pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL THEN
                                   (SELECT {_text("pg_catalog.to_jsonb(v) ->> 'rowfilter'", _ROW_FILTER)}
                                      FROM pg_catalog.pg_publication_tables v
                                      JOIN pg_catalog.pg_namespace n ON n.nspname = v.schemaname
                                      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = v.tablename
                                     WHERE v.pubname = p.pubname AND c.oid = r.prrelid) END),
                               ',' ORDER BY r.prrelid::pg_catalog.regclass::pg_catalog.text COLLATE "C")
                      FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid
                       AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = r.prrelid AND {RELATION})),
                   (SELECT pg_catalog.string_agg(s.refobjid::pg_catalog.regnamespace::pg_catalog.text, ','
                               ORDER BY s.refobjid::pg_catalog.regnamespace::pg_catalog.text COLLATE "C")
                      FROM pg_catalog.pg_depend d
                      JOIN pg_catalog.pg_depend s ON (s.classid, s.objid) = (d.classid, d.objid)
                     WHERE d.classid = pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')
                         AND d.refobjid = p.oid
                       AND d.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass
                       AND s.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)), NULL
          FROM pg_catalog.pg_publication p""",
}

# A dump of definitions alone fills no materialized view.
WITHOUT_ROWS = {**DEFINITIONS, "view": DEFINITIONS["view"].replace(_POPULATED, "c.relkind = 'v'")}
_LEFT_OUT_INDEXES = f"""
SELECT i.indexrelid::pg_catalog.regclass::pg_catalog.text,
       coalesce('constraint ' || pg_catalog.quote_ident(k.conname) || ' of ' || i.indrelid::pg_catalog.regclass, '')
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
 WHERE {RELATION} AND NOT ({_DUMPED_INDEX})
 ORDER BY 1"""


@dataclass(frozen=True)
class Definition:
    """The definition of an object.

    :ivar facts: The digest of its structural facts, which is the same on every major; empty if only `digests` are
        known. `local` is the digest of facts that depend on the major, None if there are none.
    :ivar texts: Its expressions in canonical form; `bodies` are the texts that depend on the major.
    :ivar digests: The digests in manifests of format 1, of everything and of the body; None if unknown.
    :ivar parts: The facts as words, by their part, to show what differs; None if only digests are known.
    """

    facts: str
    local: str | None = None
    texts: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    digests: tuple[str, str | None] | None = field(default=None, compare=False)
    parts: Mapping[str, str] | None = field(default=None, compare=False)


Objects = dict[str, dict[str, Definition]]


def pin_settings(connection: Connection) -> None:
    """Set :data:`PINNED` for the rest of the session."""
    connection.execute(
        "SELECT pg_catalog.set_config(name, setting, false) FROM ROWS FROM"
        " (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) AS v(name, setting)",
        [list(PINNED), list(PINNED.values())],
    )


def read_objects(connection: Connection, queries: Mapping[str, str] = DEFINITIONS) -> Objects:
    """Return the definitions of all objects, in a session with pinned settings (:func:`pin_settings`)."""
    # In SQL_ASCII a body may hold any bytes, which cannot be sent as text.
    encoding = "SQL_ASCII" if connection.info.parameter_status("server_encoding") == "SQL_ASCII" else "UTF8"
    objects: Objects = {kind: {} for kind in queries}
    for kind in read_existing_kinds(connection, queries):
        objects[kind] = dict(_read(connection, queries[kind], encoding))
    return objects


def _read(connection: Connection, query: str, encoding: str) -> Iterator[tuple[str, Definition]]:
    in_bytes = (
        f"SELECT name, pg_catalog.convert_to(stable::pg_catalog.text, '{encoding}'),"
        f" pg_catalog.convert_to(text::pg_catalog.text, '{encoding}')"
        f" FROM ({query}) AS q(name, stable, text)"
    )
    for name, stable, text in connection.execute(in_bytes.encode()):
        facts, texts, digest = _split_marked(stable)
        local, bodies, body = (None, (), None) if text is None else _split_marked(text)
        yield (
            name,
            Definition(
                facts=facts,
                local=None if local in _NOTHING else local,
                texts=texts,
                bodies=bodies,
                digests=(digest, body),
                parts=_named_parts(stable) | ({} if text is None else _single_part(DETAILS, text)),
            ),
        )


def _split_marked(marked: bytes) -> tuple[str, tuple[str, ...], str]:
    """Return the digest of the facts, the texts, and the digest of format 1."""
    marked = _NAMED.sub(lambda part: part["content"], marked)
    if not marked.count(b"<" + _NONCE.encode()):
        digest = _digest(marked)
        return digest, (), digest
    texts = [
        canonical(_text_of(part["label"] + part["content"])) for part in _PART.finditer(marked) if part["kind"] in b"tn"
    ]
    facts = _PART.sub(lambda part: {b"f": part["content"], b"o": b""}.get(part["kind"], b"<>"), marked)
    older = _PART.sub(lambda part: part["content"] if part["kind"] in b"to" else b"", marked)
    return _digest(facts), tuple(texts), _digest(older)


def _named_parts(marked: bytes) -> dict[str, str]:
    """Return the facts as words by their names; as a single part if they have no names."""
    named = [(_text_of(each["label"]), _text_of(_facts(each["content"]))) for each in _NAMED.finditer(marked)]
    return join_parts(named) if named else _single_part(DEFINITION, marked)


def _single_part(name: str, marked: bytes) -> dict[str, str]:
    facts = _text_of(_facts(marked))
    return {name: facts} if facts else {}


def _text_of(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _facts(marked: bytes) -> bytes:
    return _PART.sub(lambda part: part["content"] if part["kind"] == b"f" else b"", marked)


def invalid_indexes(connection: Connection) -> list[tuple[str, str]]:
    """Return the indexes that a dump leaves out, each with the key that needs it or an empty text."""
    return connection.execute(_LEFT_OUT_INDEXES.encode()).fetchall()


def read_extensions(connection: Connection) -> dict[str, str]:
    """Return the versions of the extensions by name."""
    return dict(connection.execute("SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1"))


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


# The digests of facts that are empty or only one text.
_NOTHING = frozenset({_digest(b""), _digest(b"<>")})


def objects_to_document(objects: Objects) -> dict[str, Any]:
    """Return definitions as a manifest stores them; an object that has only a digest is stored as its digest."""
    return {kind: {name: _document(each) for name, each in found.items()} for kind, found in objects.items()}


def _document(each: Definition) -> str | dict[str, Any]:
    more = {"local": each.local, "texts": list(each.texts), "bodies": list(each.bodies), "parts": each.parts}
    known = {key: value for key, value in more.items() if value}
    if known and each.parts is not None:
        known["parts"] = each.parts
    return {"facts": each.facts, **known} if known else each.facts


def objects_from_facts(facts: Mapping[str, Any]) -> Objects:
    """Return the objects in the `facts` of a manifest, also of an earlier version, which has only digests."""
    known, read_one = (
        (facts["definitions"], _of_document) if "definitions" in facts else (facts.get("objects", {}), _of_digests)
    )
    return {kind: {name: read_one(value) for name, value in found.items()} for kind, found in known.items()}


def _of_digests(value: Any) -> Definition:
    return Definition(facts="", digests=(value, None) if isinstance(value, str) else (value[0], value[1]))


def _of_document(value: Any) -> Definition:
    if isinstance(value, str):
        return Definition(facts=value)
    return Definition(
        facts=value["facts"],
        local=value.get("local"),
        texts=tuple(value.get("texts", ())),
        bodies=tuple(value.get("bodies", ())),
        parts=value.get("parts"),
    )


Properties = dict[str, dict[str, str]]
"""By kind and object: the digest of its owner, grants or settings."""

KINDS = ("owner", "grants", "system_grants", "local_grants", "settings")
"""`system_grants` are those on PostgreSQL's objects; `local_grants` are in no dump."""

_LAST_PART = re.compile(r'\.("(?:[^"]|"")*"|[^".]*)\Z')

# One query, because each scan of the catalogue takes time; but with the grants on system objects in it, PostgreSQL
# plans it four times as long.
_PROPERTIES = f"""
WITH found(name, owner, acl, usual, settings) AS MATERIALIZED (
    SELECT c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner, c.relacl, '', CASE WHEN c.relkind IN ('r', 'p')
        THEN c.reloptions END
      FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {RELATION}
     UNION ALL
    SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner, p.proacl, 'PUBLIC EXECUTE f', NULL
      FROM pg_catalog.pg_proc p WHERE {ROUTINE} AND {_NOT_INTERNAL.format("pg_proc", "p.oid")}
     UNION ALL
    SELECT t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner, t.typacl, 'PUBLIC USAGE f', NULL
      FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE (c.oid IS NULL OR c.relkind = 'c') AND t.typelem = 0 AND {_TYPE}
       AND {_NOT_INTERNAL.format("pg_type", "t.oid")}
     UNION ALL
    SELECT 'schema ' || pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl, '', NULL
      FROM pg_catalog.pg_namespace n WHERE {_SCHEMA}
     UNION ALL
    SELECT {part_of("c.oid", "a.attname")}, NULL, a.attacl, '', NULL
      FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
     WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {RELATION}
     UNION ALL
    SELECT 'the database' || coalesce(' for ' || pg_catalog.quote_ident(r.rolname), ''), NULL, NULL, '', s.setconfig
      FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE d.datname = pg_catalog.current_database()
), given AS (
    SELECT f.name, f.usual, coalesce(
               (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', coalesce(r.rolname, 'PUBLIC'),
                   x.privilege_type, x.is_grantable), ','
                           ORDER BY r.rolname COLLATE "C", x.privilege_type COLLATE "C")
                  FROM pg_catalog.aclexplode(f.acl) AS x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
                 WHERE x.grantee IS DISTINCT FROM f.owner), '') AS grants
      FROM found f WHERE f.acl IS NOT NULL
)
SELECT 'owner ' || name, pg_catalog.pg_get_userbyid(owner)::pg_catalog.text, NULL
  FROM found WHERE owner IS NOT NULL AND name <> 'schema public'
 UNION ALL
SELECT 'grants ' || name, grants, NULL FROM given WHERE grants <> usual
 UNION ALL
SELECT 'settings ' || name, (SELECT pg_catalog.string_agg(o, ',' ORDER BY o COLLATE "C")
    FROM pg_catalog.unnest(settings) AS o), NULL
  FROM found WHERE settings IS NOT NULL"""
PROPERTY_QUERIES = {"property": _PROPERTIES, "system grant": DESCRIBED}


def read_properties(connection: Connection) -> Properties:
    """Return owners, grants and settings, in a session with pinned settings (:func:`pin_settings`)."""
    found: Properties = {kind: {} for kind in KINDS}
    for objects in read_objects(connection, PROPERTY_QUERIES).values():
        for named, digest in objects.items():
            kind, _, name = named.partition(" ")
            found[kind][name] = digest.facts
    return found


def compare_properties(
    expected: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]], *, same_major: bool
) -> dict[str, list[str]]:
    """Return by kind the names of the objects whose owner, grants or settings differ."""
    differing = {}
    for kind in KINDS:
        # The manifest of another version may not have the kind.
        if kind not in expected or kind not in found or (kind.endswith("grants") and not same_major):
            continue
        before, now = expected[kind], found[kind]
        # Every object has an owner; missing and extra objects are reported as such.
        names = before.keys() & now.keys() if kind == "owner" else before.keys() | now.keys()
        if names := {name for name in names if before.get(name) != now.get(name)}:
            differing[kind] = sorted(names)
    return differing


def name_of(kind: str, name: str) -> str:
    """Return the name in :data:`Properties` of an object in :data:`Objects`."""
    return f"{kind} {name}" if kind == "schema" else name


def table_of(name: str) -> str:
    """Return a name without its last part: the table of a column."""
    found = _LAST_PART.search(name)
    return name[: found.start()] if found else ""
