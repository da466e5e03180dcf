"""Restore, undo, reset and rehearse."""
