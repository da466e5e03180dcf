"""What Python keeps of modules that it has compiled (`__pycache__`)."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Let Python keep what is loaded inside, unless the person forbids it (`PYTHONDONTWRITEBYTECODE`, `-B`).

    Invoke forbids it for all, but for `--write-pyc`. A copy of ours, or a package that uv has installed, would then be
    compiled by each command anew: a quarter of a second. Modules of others, outside, stay as Invoke wants them.
    """
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
