"""Checks of everything that dumps and restores need."""
