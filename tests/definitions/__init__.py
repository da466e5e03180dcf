"""Expressions in every place where one can be defined: dumped, reloaded and compared."""
