"""Dump a database."""
