"""Faults on purpose, seeded and counted: kills at chosen moments, cuts and flipped bits; and psql beside us."""
