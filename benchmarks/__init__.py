"""Measures ours beside what people would use instead: `uv run inv bench`. Not part of the wheel."""
