"""Entry point that `inv` loads; everything lives in the `tasks` package next door."""

import sys

# Invoke has just registered this file under the package's name: give the name back.
sys.modules.pop("tasks", None)

from tasks import ns

__all__ = ["ns"]
