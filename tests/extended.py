"""A server of its own whose programs know one extension more."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import DEFAULT_MAJOR, Server, clusters_dir, provision

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROL = """\
comment = 'an extension of a test'
default_version = '1.0'
relocatable = false
"""


@contextlib.contextmanager
def extended_server(name: str, script: str) -> Iterator[Server]:
    """Start a server, and stop it at the end of the block.

    :param name: The extension's name.
    :param script: What creates it.
    """
    with tempfile.TemporaryDirectory(prefix="programs-", dir=clusters_dir()) as folder:
        # A server looks for extensions beside its program, wherever a link to that leads.
        home = Path(folder) / "home"
        shutil.copytree(provision(DEFAULT_MAJOR).parent, home)
        Path(folder).chmod(0o755)
        extensions = home / "share" / "extension"
        (extensions / f"{name}.control").write_text(_CONTROL, encoding="utf-8")
        (extensions / f"{name}--1.0.sql").write_text(script, encoding="utf-8")
        server = Server.launch(DEFAULT_MAJOR, home / "bin")
        try:
            yield server
        finally:
            server.close()
