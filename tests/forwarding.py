"""A port on loopback that leads elsewhere, as a tunnel, a proxy or a container's published port does."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Forwarder:
    """Forwards each connection to a port of this machine, for the length of a `with` block.

    :param target: Gives the port for the connection of that number, from 0 on.
    """

    def __init__(self, target: Callable[[int], int]) -> None:
        self.target = target
        self.seen = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._served: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # Only so does the thread that accepts wake up.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *self._served):
            thread.join(timeout=10)

    def admits(self, near: socket.socket) -> bool:  # noqa: ARG002 - for those that look at it
        """Tell whether a connection is forwarded; it is closed otherwise."""
        return True

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self.admits(near):
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target(self.seen)))
                except OSError:
                    near.close()
                    continue
                finally:
                    self.seen += 1
                self._served.append(threading.Thread(target=_both, args=(near, far), daemon=True))
                self._served[-1].start()


def _both(near: socket.socket, far: socket.socket) -> None:
    with near, far:
        back = threading.Thread(target=_move, args=(far, near), daemon=True)
        back.start()
        _move(near, far)
        back.join()


def _move(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            sink.sendall(chunk)
    # Whoever closes an end has nothing more to say, and wants no answer: so it is with PostgreSQL.
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
