"""What psql sends to a server for a text: the judge of our lexer."""

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.dumpformat.lexer import CopyData, Event, Statement, lex

COPY: Final = re.compile(rb"COPY\b.*\bFROM stdin\s*;?\s*\Z", re.IGNORECASE | re.DOTALL)


# A query, or a COPY with its data.
Query = tuple[bytes, bytes]


@dataclass
class Recorder:
    """Plays a PostgreSQL server to one psql and writes down what it is asked (manual, 55.2)."""

    queries: list[Query] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Answer one connection until it ends."""
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            (length,) = struct.unpack("!I", stream.read(4))
            stream.read(length - 4)
            parameters = {"server_version": "17.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
            hello = [_message(b"R", struct.pack("!I", 0)), *(_parameter(*each) for each in parameters.items())]
            stream.write(b"".join(hello) + _READY)
            stream.flush()
            for kind, body in _messages(stream.read):
                if kind == b"Q":
                    self._query(stream.write, body.removesuffix(b"\0"))
                elif kind == b"d":
                    query, data = self.queries[-1]
                    self.queries[-1] = query, data + body
                    continue
                elif kind == b"c":
                    stream.write(_message(b"C", b"COPY 0\0") + _READY)
                else:
                    assert kind == b"X", kind
                stream.flush()

    def _query(self, write: Callable[[bytes], object], query: bytes) -> None:
        self.queries.append((query, b""))
        if COPY.match(query):
            write(_message(b"G", struct.pack("!BH", 0, 0)))
            return
        if setting := _STRINGS_SET.match(query):
            write(_parameter("standard_conforming_strings", (setting[1] or b"on").decode().lower()))
        elif setting := re.match(rb"SET client_encoding = '(\w+)'", query):
            write(_parameter("client_encoding", setting[1].decode()))
        write(_message(b"C", b"DONE\0") + _READY)


# However it is written: by its name, or by half of it.
_STRINGS_SET: Final = re.compile(
    rb"(?:SET|RESET|SELECT)\b.{,40}standard_conforming.{,40}?(?:\b(on|off)\b|\Z)", re.IGNORECASE | re.DOTALL
)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _parameter(name: str, value: str) -> bytes:
    return _message(b"S", f"{name}\0{value}\0".encode())


_READY: Final = _message(b"Z", b"I")


def _messages(read: Callable[[int], bytes]) -> Iterator[tuple[bytes, bytes]]:
    while header := read(5):
        kind, length = struct.unpack("!cI", header)
        yield kind, read(length - 4)


@contextmanager
def listening() -> Iterator[tuple[Recorder, int]]:
    """Run a recorder on a port of its own."""
    recorder = Recorder()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=recorder.serve, args=(listener,), daemon=True)
        thread.start()
        yield recorder, listener.getsockname()[1]
        thread.join(timeout=60)
        assert not thread.is_alive()


def asked_by_psql(text: bytes, bin_dir: Path) -> tuple[list[Query], bytes]:
    """Let psql load a text.

    :return: What psql sent, and what it printed of it.
    """
    with listening() as (recorder, port):
        conninfo = f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable gssencmode=disable"
        result = subprocess.run(
            [bin_dir / "psql", "--no-psqlrc", "--quiet", "--echo-queries", "--file=-", f"--dbname={conninfo}"],
            input=text,
            # A text in which psql sees a command `\\e` must not open an editor.
            env={"PGCLIENTENCODING": "UTF8", "LC_ALL": "C", "PSQL_EDITOR": "true"},
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert result.returncode == 0, result.stderr
    return recorder.queries, result.stdout


def told_by_us(events: Iterable[Event]) -> list[Query]:
    """Tell the same of the lexer's events."""
    queries: list[Query] = []
    for event in events:
        if isinstance(event, Statement):
            queries.append((event.text, b""))
        elif isinstance(event, CopyData):
            query, data = queries[-1]
            queries[-1] = query, data + event.text
    return queries


def bared(queries: Iterable[Query]) -> list[Query]:
    """Leave out what psql itself leaves out of a query or not, by its version: on both sides alike.

    Of queries these are empty lines and, up to 14, line comments; those of our texts begin with `--~`. Of
    rows it is the line that ends them.
    """
    return [(_flat(query), _without_end(data)) for query, data in queries]


def _flat(query: bytes) -> bytes:
    if b"--~" in query:
        query = re.sub(rb"--~[^\n\r]*[\n\r]?", b"\n", query)
    # What `\s+` would find, in a third of the time.
    words = query.split()
    ends = [b"" if end and not end.isspace() else b" " for end in (query[:1], query[-1:])]
    return ends[0] + b" ".join(words) + ends[1] if words else query[:1] and b" "


def _without_end(data: bytes) -> bytes:
    return data[:-3] if data == b"\\.\n" or data.endswith(b"\n\\.\n") else data


def by_the_lexer(text: bytes) -> list[Query]:
    """Split as we do, from chunks of an odd size."""
    return told_by_us(lex(text[at : at + 4099] for at in range(0, len(text), 4099)))
