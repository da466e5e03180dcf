"""Transaction poolers by their names, and where the direct connection is: dumps and restores want a session."""

from __future__ import annotations

import re

# Host and port, and what to do; the first that fits counts.
_KNOWN = (
    (r".*-pooler\..*\.neon\.tech:\d+", "take `-pooler` out of the host: that is Neon's direct connection"),
    (r".*\.pooler\.supabase\.com:6543", "use port 5432, Supabase's session pooler, or the direct db.….supabase.co"),
    (r".*\.pooler\.supabase\.com:.*", ""),
    (r".*\.supabase\.co:6543", "use port 5432, Supabase's direct connection"),
    (r"pooled\.db\.prisma\.io:\d+", "use the host db.prisma.io, the direct connection of Prisma Postgres"),
    (r".*\.proxy-.*\.rds\.amazonaws\.com:\d+", "use the endpoint of the instance or cluster instead of RDS Proxy's"),
    (r".*\.db\.ondigitalocean\.com:25061", "use port 25060, DigitalOcean's direct connection"),
    (r".*\.postgres\.database\.azure\.com:6432", "use port 5432 instead of Azure's PgBouncer on 6432"),
    (r".*(-pooler\.|\.pooler\.).*|pooled\..*", "use the server's own host"),
    (r".*:6432", "6432 is mostly PgBouncer's port: use the server's own, 5432"),
)


def advice(host: str, port: str) -> str:
    """Tell what to use instead of a transaction pooler; empty for what does not look like one."""
    end = f"{host.lower()}:{port}"
    return next((what for pattern, what in _KNOWN if re.fullmatch(pattern, end)), "")
