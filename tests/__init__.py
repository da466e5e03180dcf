"""Tests: pure ones in milliseconds, the others on real PostgreSQL servers."""
