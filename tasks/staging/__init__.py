"""Restore into a staging database, and let it take the place of the configured one."""
