"""What people do instead: `gunzip -c dump.sql.gz | psql --single-transaction`, harmed in the same ways."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

from tests.faults.lane import NAME, SERVER, Lane

VICTIMS: Final = (
    "psql: SIGKILL",
    "psql: SIGINT",
    "psql: SIGTERM",
    "psql: SIGHUP",
    "gunzip: kill -9",
    *SERVER,
)
_PRODUCERS: Final = {".gz": ("gunzip", "-c"), ".zst": ("zstd", "-dcq"), ".sql": ("cat",)}
_OPTIONS: Final = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", "--output=/dev/null")


class Pipe:
    """A pipeline into the lane's database.

    :ivar seconds: How long a load takes when nothing goes wrong.
    """

    def __init__(self, lane: Lane, dump: Path) -> None:
        self._lane = lane
        self._dump = dump
        lane.lay_out("restore")
        self._old = lane.content()
        began = time.monotonic()
        code = self._load(dump)
        self.seconds = time.monotonic() - began
        self._new = lane.content()
        lane.forget()
        assert code == 0
        assert self._new != self._old

    def killed(self, victim: str) -> tuple[str, int]:
        """Kill somebody at a random moment; return what state the database is in, and psql's exit code."""
        self._lane.lay_out("restore")
        return self._judged(self._load(self._dump, victim))

    def fed(self, dump: Path) -> tuple[str, int]:
        """Load a damaged file; return what state the database is in, and psql's exit code."""
        self._lane.lay_out("restore")
        return self._judged(self._load(dump))

    def _judged(self, code: int) -> tuple[str, int]:
        self._lane.drain()
        content = self._lane.content()
        state = {self._old: "old", self._new: "new"}.get(content, "damaged")
        if state != "old":
            self._lane.forget()
        return state, code

    def _load(self, dump: Path, victim: str = "") -> int:
        producer = subprocess.Popen(
            [*_PRODUCERS[dump.suffix], str(dump)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        server = self._lane.server
        loader = subprocess.Popen(
            [str(server.bin_dir / "psql"), *_OPTIONS, f"--dbname={server.conninfo(NAME)}"],
            stdin=producer.stdout,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
        assert producer.stdout is not None
        producer.stdout.close()
        watchdog = threading.Timer(60, loader.kill)
        watchdog.start()
        if victim:
            time.sleep(self._lane.chance.random() * self.seconds)
            self._harm(victim, producer, loader)
        code = loader.wait()
        watchdog.cancel()
        producer.kill()
        producer.wait()
        return code

    def _harm(self, victim: str, producer: "subprocess.Popen[bytes]", loader: "subprocess.Popen[bytes]") -> None:
        with contextlib.suppress(ProcessLookupError):
            if victim.startswith("psql: "):
                loader.send_signal(signal.Signals[victim.removeprefix("psql: ")])
            elif victim.startswith("gunzip"):
                producer.kill()
            else:
                self._lane.harm_server(victim)
