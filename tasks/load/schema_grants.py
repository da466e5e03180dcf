"""Read the privileges of a schema, to see whether the grants of a dump change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .row_counts import quote_literal

if TYPE_CHECKING:
    from ..postgres.protocol import StatementStream


def privileges_of_schema(stream: StatementStream, schema: str) -> list[list[bytes | None]]:
    """Return a schema's privileges in an order that does not depend on the order of the grants."""
    return stream.ask(
        b"SELECT a.grantor, a.grantee, a.privilege_type, a.is_grantable FROM pg_catalog.pg_namespace n,"
        b" pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a"
        b" WHERE n.nspname = %s ORDER BY 1, 2, 3, 4" % quote_literal(schema)
    )
