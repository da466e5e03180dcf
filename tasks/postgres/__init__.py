"""Connections to the server, the statement protocol, and queries of its catalogue."""
