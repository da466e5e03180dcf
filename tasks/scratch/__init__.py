"""Restores into a scratch database: to rehearse, or to give it a name at the end."""
