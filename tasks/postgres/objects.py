"""Every object of a database, in pg_dump's own selection, as something that two databases can be compared by.

Each object has two digests. `stable` is made of what the catalogue holds and is the same on PostgreSQL 14 to 18
for the same object. `text` adds what the server writes itself (bodies of views, rules and SQL-standard
functions); it changes from major to major, so it is compared only between servers of one major.

Not selected, as in a dump: what belongs to an extension, constraints and triggers that come from a parent or
are internal, and NOT NULL, which 18 lists among the constraints and which the columns' digest holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .session import Connection

# What deparsed expressions and values depend on; the same in every session that reads facts.
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

_PEOPLES = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NOT_OF_EXTENSION = """NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = '{catalogue}'::pg_catalog.regclass AND d.objid = {oid} AND d.deptype = 'e')"""


def own(catalogue: str, oid: str) -> str:
    """Give the condition for what people made themselves: nothing of PostgreSQL's own, nor of an extension's."""
    return f"{_PEOPLES} AND " + _NOT_OF_EXTENSION.format(catalogue=f"pg_catalog.{catalogue}", oid=oid)


_RELATION = own("pg_class", "c.oid")

# Each query gives: name, what is stable, what only one major writes (or NULL).
_QUERIES: dict[str, str] = {
    "schema": f"""
        SELECT pg_catalog.quote_ident(n.nspname), '', NULL FROM pg_catalog.pg_namespace n
         WHERE {own("pg_namespace", "n.oid")}""",
    "table": f"""
        SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|', c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
                   c.relreplident,
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
                       pg_catalog.format_type(a.atttypid, a.atttypmod),
                               a.attnotnull, a.attidentity, a.attgenerated,
                               pg_catalog.pg_get_expr(f.adbin, f.adrelid),
                               CASE WHEN a.attcollation <> t.typcollation
                                   THEN a.attcollation::pg_catalog.regcollation END,
                               a.attfdwoptions),
                               ', ' ORDER BY a.attname COLLATE "C")
                      FROM pg_catalog.pg_attribute a
                      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                      LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                   (SELECT pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::pg_catalog.text, ', '
                       ORDER BY i.inhseqno)
                      FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
                   pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                   CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END,
                   'OF ' || nullif(c.reloftype, 0)::pg_catalog.regtype,
                   (SELECT pg_catalog.concat_ws(' ', 'SERVER', pg_catalog.quote_ident(s.srvname), x.ftoptions)
                      FROM pg_catalog.pg_foreign_table x JOIN pg_catalog.pg_foreign_server s ON s.oid = x.ftserver
                     WHERE x.ftrelid = c.oid)),
               NULL
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND {_RELATION}""",
    "view": f"""
        SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|', c.relkind, pg_catalog.array_to_string(c.reloptions, ','), c.relispopulated,
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
                       pg_catalog.format_type(a.atttypid, a.atttypmod),
                               pg_catalog.pg_get_expr(f.adbin, f.adrelid)), ', ' ORDER BY a.attnum)
                      FROM pg_catalog.pg_attribute a
                      LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
               pg_catalog.pg_get_viewdef(c.oid)
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('v', 'm') AND c.relpersistence <> 't' AND {_RELATION}""",
    "index": f"""
        SELECT i.indexrelid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|', pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered,
                   i.indisreplident), NULL
          FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {_RELATION}
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)""",
    "constraint": f"""
        SELECT pg_catalog.concat_ws('.', k.conrelid::pg_catalog.regclass::pg_catalog.text,
            pg_catalog.quote_ident(k.conname)),
               pg_catalog.concat_ws('|', pg_catalog.pg_get_constraintdef(k.oid), k.convalidated), NULL
          FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conparentid = 0 AND k.conislocal
           AND c.relpersistence <> 't' AND {_RELATION}""",
    "sequence": f"""
        SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
               pg_catalog.concat_ws('|', pg_catalog.format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement,
                   s.seqmax, s.seqmin, s.seqcache,
                   s.seqcycle,
                   (SELECT pg_catalog.concat_ws(' ', d.deptype, d.refobjid::pg_catalog.regclass,
                       pg_catalog.quote_ident(a.attname))
                      FROM pg_catalog.pg_depend d
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                     WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype
                         IN ('a', 'i')
                       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)),
               NULL
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
         WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {_RELATION}""",
    "trigger": f"""
        SELECT pg_catalog.concat_ws('.', g.tgrelid::pg_catalog.regclass::pg_catalog.text,
            pg_catalog.quote_ident(g.tgname)),
               pg_catalog.concat_ws('|', g.tgenabled, pg_catalog.pg_get_triggerdef(g.oid)), NULL
          FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_catalog.pg_trigger u ON u.oid = g.tgparentid
          LEFT JOIN pg_catalog.pg_constraint k ON k.oid = g.tgconstraint
         WHERE {_RELATION} AND (NOT g.tgisinternal AND g.tgparentid = 0
                OR g.tgenabled <> u.tgenabled AND k.contype IS DISTINCT FROM 'f')""",
    "policy": f"""
        SELECT pg_catalog.concat_ws('.', p.polrelid::pg_catalog.regclass::pg_catalog.text,
            pg_catalog.quote_ident(p.polname)),
               pg_catalog.concat_ws('|', p.polcmd, p.polpermissive,
                   (SELECT pg_catalog.string_agg(r.rolname, ',' ORDER BY r.rolname COLLATE "C")
                       FROM pg_catalog.pg_roles r
                     WHERE r.oid = ANY(p.polroles)),
                   pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
               NULL
          FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {_RELATION}""",
    "rule": f"""
        SELECT pg_catalog.concat_ws('.', w.ev_class::pg_catalog.regclass::pg_catalog.text,
            pg_catalog.quote_ident(w.rulename)),
               pg_catalog.concat_ws('|', w.ev_type, w.is_instead, w.ev_enabled), pg_catalog.pg_get_ruledef(w.oid)
          FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE w.rulename <> '_RETURN' AND {_RELATION}""",
    "function": f"""
        SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text,
               pg_catalog.concat_ws('|', p.prokind, l.lanname, p.provolatile, p.proisstrict, p.prosecdef,
                   p.proleakproof,
                   p.proparallel, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
                   pg_catalog.array_to_string(p.proconfig, ','), CASE WHEN p.prosqlbody IS NULL THEN p.prosrc END,
                       p.probin,
                   (SELECT pg_catalog.concat_ws(' ', g.aggkind, g.aggnumdirectargs, g.aggtransfn, g.aggfinalfn,
                       g.aggfinalextra,
                               g.aggfinalmodify, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn,
                               g.aggtranstype::pg_catalog.regtype, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn,
                               g.aggmtranstype::pg_catalog.regtype, g.aggsortop::pg_catalog.regoperator,
                                   'INIT ' || g.agginitval,
                               'MINIT ' || g.aggminitval)
                      FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid)),
               pg_catalog.pg_get_function_sqlbody(p.oid)
          FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
          JOIN pg_catalog.pg_language l ON l.oid = p.prolang
         WHERE {own("pg_proc", "p.oid")}
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'i')""",
    "type": f"""
        SELECT t.oid::pg_catalog.regtype::pg_catalog.text,
               pg_catalog.concat_ws('|', t.typtype,
                   (SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
                     WHERE e.enumtypid = t.oid),
                   CASE WHEN t.typtype = 'd' THEN pg_catalog.concat_ws(' ', pg_catalog.format_type(t.typbasetype,
                       t.typtypmod), t.typnotnull,
                       t.typdefault, nullif(t.typcollation, 0)::pg_catalog.regcollation,
                       (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(k.conname),
                           pg_catalog.pg_get_constraintdef(k.oid),
                                   k.convalidated), ',' ORDER BY k.conname COLLATE "C")
                          FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) END,
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
                       pg_catalog.format_type(a.atttypid, a.atttypmod)), ','
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
          FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
          LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
         WHERE (c.oid IS NULL OR c.relkind = 'c') AND {own("pg_type", "t.oid")}
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'i')""",
    "operator": f"""
        SELECT o.oid::pg_catalog.regoperator::pg_catalog.text, pg_catalog.concat_ws('|', o.oprcode,
            o.oprcom::pg_catalog.regoperator, o.oprnegate::pg_catalog.regoperator,
                   o.oprcanmerge, o.oprcanhash, o.oprrest, o.oprjoin), NULL
          FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
         WHERE {own("pg_operator", "o.oid")}""",
    "statistics": f"""
        SELECT pg_catalog.format('%I.%I', n.nspname, s.stxname), '', pg_catalog.pg_get_statisticsobjdef(s.oid)
          FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
         WHERE {own("pg_statistic_ext", "s.oid")}""",
    "collation": f"""
        SELECT pg_catalog.format('%I.%I', n.nspname, l.collname), pg_catalog.concat_ws('|', l.collprovider,
            l.collisdeterministic),
               pg_catalog.to_jsonb(l) - ARRAY['oid', 'collname', 'collnamespace', 'collowner', 'collversion']
          FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
         WHERE {own("pg_collation", "l.oid")}""",
    "large object": """
        SELECT m.oid::pg_catalog.text, '', NULL FROM pg_catalog.pg_largeobject_metadata m""",
    "event trigger": f"""
        SELECT pg_catalog.quote_ident(e.evtname), pg_catalog.concat_ws('|', e.evtevent, e.evtenabled,
            e.evtfoid::pg_catalog.regproc,
                   pg_catalog.array_to_string(e.evttags, ',')), NULL
          FROM pg_catalog.pg_event_trigger e
         WHERE {_NOT_OF_EXTENSION.format(catalogue="pg_catalog.pg_event_trigger", oid="e.oid")}""",
    "publication": """
        SELECT pg_catalog.quote_ident(p.pubname), pg_catalog.concat_ws('|', p.puballtables, p.pubinsert, p.pubupdate,
            p.pubdelete,
                   p.pubtruncate, p.pubviaroot,
                   (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.prrelid::pg_catalog.regclass,
                               (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attname COLLATE "C")
                                  FROM pg_catalog.pg_attribute a
                                 WHERE a.attrelid = r.prrelid
                                     AND pg_catalog.to_jsonb(r) -> 'prattrs' @> pg_catalog.to_jsonb(a.attnum)),
                               CASE WHEN pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL THEN
                                   (SELECT pg_catalog.to_jsonb(v) ->> 'rowfilter'
                                      FROM pg_catalog.pg_publication_tables v
                                      JOIN pg_catalog.pg_namespace n ON n.nspname = v.schemaname
                                      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = v.tablename
                                     WHERE v.pubname = p.pubname AND c.oid = r.prrelid) END),
                               ',' ORDER BY r.prrelid::pg_catalog.regclass::pg_catalog.text COLLATE "C")
                      FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid),
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


@dataclass(frozen=True)
class Digest:
    """What an object is, in short.

    :ivar stable: The same on every major; `text` on one major alone, None where nothing is to add.
    """

    stable: str
    text: str | None = None


Objects = dict[str, dict[str, Digest]]


def pin(connection: Connection) -> None:
    """Set what deparsed expressions and values depend on, for the rest of the session."""
    connection.execute(
        "SELECT pg_catalog.set_config(s.name, v.setting, false) FROM ROWS FROM"
        " (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) AS v(name, setting)"
        " JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name)",
        [list(PINNED), list(PINNED.values())],
    )


def read(connection: Connection, queries: Mapping[str, str] = _QUERIES) -> Objects:
    """Read the digests of all objects; the session must be pinned."""
    # In SQL_ASCII a body may hold any bytes, which could not be sent as text.
    encoding = "SQL_ASCII" if connection.info.parameter_status("server_encoding") == "SQL_ASCII" else "UTF8"
    return {kind: dict(_read(connection, query, encoding)) for kind, query in queries.items()}


def _read(connection: Connection, query: str, encoding: str) -> Iterator[tuple[str, Digest]]:
    in_bytes = (
        f"SELECT name, pg_catalog.convert_to(stable::pg_catalog.text, '{encoding}'),"
        f" pg_catalog.convert_to(text::pg_catalog.text, '{encoding}')"
        f" FROM ({query}) AS q(name, stable, text)"
    )
    for name, stable, text in connection.execute(in_bytes.encode()):
        yield str(name), Digest(_digest(bytes(stable)), None if text is None else _digest(bytes(text)))


def extensions(connection: Connection) -> dict[str, str]:
    """Read the extensions and their versions; they are reported, never compared."""
    rows = connection.execute("SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1")
    return {str(name): str(version) for name, version in rows}


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True)
class Difference:
    """An object that is not what it should be.

    :ivar what: `missing`, `different` or `extra`.
    """

    kind: str
    name: str
    what: str


def compare(expected: Objects, found: Objects, *, same_major: bool) -> list[Difference]:
    """Compare two databases' objects.

    :param same_major: Compare what only one major writes, too.
    """
    differences = []
    for kind in _QUERIES:
        # A manifest of another version of ours may know other kinds: only what both know is compared.
        if kind not in expected or kind not in found:
            continue
        wanted, have = expected[kind], found[kind]
        for name in sorted(wanted.keys() | have.keys()):
            if name not in have:
                differences.append(Difference(kind, name, "missing"))
            elif name not in wanted:
                differences.append(Difference(kind, name, "extra"))
            elif not _same(wanted[name], have[name], same_major=same_major):
                differences.append(Difference(kind, name, "different"))
    return differences


def _same(one: Digest, other: Digest, *, same_major: bool) -> bool:
    return one.stable == other.stable and (not same_major or one.text == other.text)


def to_document(objects: Objects) -> dict[str, Any]:
    """Write digests as they stand in a manifest."""
    return {
        kind: {name: each.stable if each.text is None else [each.stable, each.text] for name, each in found.items()}
        for kind, found in objects.items()
    }


def from_document(document: Mapping[str, Any]) -> Objects:
    """Read them back."""
    return {
        str(kind): {
            str(name): Digest(value) if isinstance(value, str) else Digest(str(value[0]), str(value[1]))
            for name, value in found.items()
        }
        for kind, found in document.items()
    }
