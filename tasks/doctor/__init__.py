"""The checks of `db.doctor`: everything that dumps and restores need."""
