"""The file that `inv` loads; the code is in the package `tasks`."""

import sys

# Invoke has registered this file under the package's name; without this, the import below would find the file.
sys.modules.pop("tasks", None)

from tasks import ns

__all__ = ["ns"]
