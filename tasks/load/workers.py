"""Run the tasks of a load in several sessions at once."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from ..errors import ServerError
from ..postgres.protocol import StatementError, StatementStream
from ..system.runtime import BackgroundTask
from .row_counts import quote_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..postgres.connection import Connection

    Key = tuple[str, str]
    SettingValues = tuple[tuple[str, str], ...]


# Bytes of rows that are read ahead, for all sessions together.
AHEAD_BYTES = 16 << 20
# Seconds between checks for a signal, and between requests to cancel.
_CHECK_INTERVAL = 0.2
# Seconds that a thread may take to end by itself.
_MOMENT = 0.05
# Seconds to wait for a server that does not answer a cancel; closing the connections then ends the sessions.
_PATIENCE = 30.0
_CANCELED = "57014"
_ENCODING = "client_encoding"


class StoppedError(Exception):
    """The pool was stopped, so a task has to end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A part of a load that one session runs.

    :ivar number: Its position in the dump; of several errors, that of the first statement is raised.
    :ivar doing: What it does, for errors.
    :ivar statement: The statement of the dump, for errors.
    :ivar settings: The settings that the statement needs, with their values.
    :ivar encoding: Python's name of the encoding of the statement.
    :ivar run: Does it.
    :ivar table: The table that it uses.
    :ivar exclusive: No other task may use the table at the same time.
    """

    number: int
    doing: str
    statement: bytes
    settings: SettingValues
    encoding: str
    run: Callable[[StatementStream], object]
    table: Key
    exclusive: bool = False


class WorkerPool:
    """Sessions that run tasks, each in a thread; a context manager that stops them.

    :param connect: Opens a session, which is in autocommit mode.
    :param most: The number of sessions; fewer if the server has no more.
    :ivar changed: Notified at each change of tasks and rows.
    """

    def __init__(self, connect: Callable[[], Connection], most: int) -> None:
        self._connect = connect
        self._most = most
        self.changed = threading.Condition()
        # The tasks that wait or run, the errors so far with their task's number, and the bytes of rows that are held.
        self._waiting: list[Task] = []
        self._running: list[Task] = []
        self._errors: list[tuple[int, BaseException]] = []
        self._held = 0
        self._stopped = False
        self._connections: list[Connection] = []
        self._workers: list[tuple[BackgroundTask[None], StatementStream]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for connection in self._connections:
            connection.close()

    def start(self) -> bool:
        """Open the sessions, on the first call.

        :return: Whether there is a session for the catalogue and another one.
        """
        if not self._connections:
            with contextlib.suppress(ServerError):
                while len(self._connections) <= self._most:
                    self._connections.append(self._connect())
            for connection in self._connections[1:]:
                stream = StatementStream(connection)
                thread = BackgroundTask(partial(_serve, self, stream))
                self._workers.append((thread, stream))
                thread.start()
        return bool(self._workers)

    @property
    def count(self) -> int:
        """Return the number of sessions that run tasks."""
        return len(self._workers)

    @property
    def catalog(self) -> Connection:
        """Return a session that runs no tasks and none of the dump's statements, to read the catalogue."""
        return self._connections[0]

    # For the thread that reads the dump.

    def submit(self, tasks: Iterable[Task]) -> None:
        """Add tasks; the first one that is free is run first.

        :raises Exception: The error of an earlier task.
        """
        self.raise_error()
        with self.changed:
            self._waiting += tasks
            self.changed.notify_all()

    def wait(self, show: Callable[[int], None]) -> None:
        """Wait until all tasks are done.

        :param show: Called now and then with the number of tasks that are not done.
        :raises Exception: The error of a task. All sessions have then been stopped.
        """
        while left := self._left():
            show(left)
            with self.changed:
                self.changed.wait_for(lambda: not self._left() or self._errors, _CHECK_INTERVAL)
            self.raise_error()
        self.raise_error()

    def _left(self) -> int:
        return len(self._waiting) + len(self._running)

    def hold(self, size: int) -> None:
        """Wait until there is memory for more bytes of rows, and count them.

        :raises Exception: The error of a task.
        """
        while True:
            with self.changed:
                if self._held < AHEAD_BYTES and not self._errors:
                    self._held += size
                    return
                self.changed.wait(_CHECK_INTERVAL)
            self.raise_error()

    def raise_error(self) -> None:
        """Raise the error of a task, if there is one, after all sessions have been stopped."""
        if self._errors:
            self.stop()
            raise copy.copy(min(self._errors, key=lambda each: each[0])[1])

    def stop(self) -> None:
        """Cancel the running statements and wait until all threads have ended, or the server does not answer."""
        with self.changed:
            self._stopped = True
            self._waiting.clear()
            self.changed.notify_all()
        for thread, _ in self._workers:
            # Most end by themselves within a moment.
            thread.join(_MOMENT)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and (left := [each for each in self._workers if each[0].is_alive()]):
            for thread, stream in left:
                stream.cancel()
                thread.join(_CHECK_INTERVAL)

    # For the sessions.

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait in a task for a condition.

        :raises StoppedError: The pool was stopped.
        """
        with self.changed:
            self.changed.wait_for(lambda: self._stopped or condition())
            if self._stopped:
                raise StoppedError

    def release(self, size: int) -> None:
        """Count bytes of rows that are no longer held."""
        with self.changed:
            self._held -= size
            self.changed.notify_all()

    def next_task(self) -> Task | None:
        """Wait for a task and take it; None when the pool is stopped."""
        with self.changed:
            while not self._stopped:
                if (task := self._free_task()) is not None:
                    self._waiting.remove(task)
                    self._running.append(task)
                    return task
                self.changed.wait()
        return None

    def _free_task(self) -> Task | None:
        """Return the first task whose table is free for it."""
        for task in self._waiting:
            others = [each for each in self._running if each.table == task.table]
            if not (task.exclusive and others) and not any(each.exclusive for each in others):
                return task
        return None

    def end_task(self, task: Task, error: BaseException | None) -> None:
        """Mark a task as done, or as failed."""
        with self.changed:
            self._running.remove(task)
            canceled = isinstance(error, StatementError) and error.sqlstate == _CANCELED and self._stopped
            if error is not None and not isinstance(error, StoppedError) and not canceled:
                self._errors.append((task.number, error))
                # The other tasks end at their next wait; the main thread cancels their statements.
                self._stopped = True
            self.changed.notify_all()


def _serve(pool: WorkerPool, stream: StatementStream) -> None:
    """Run tasks in one session until the pool is stopped."""
    settings: SettingValues = ()
    while (task := pool.next_task()) is not None:
        failed: BaseException | None = None
        try:
            if task.settings != settings:
                apply_settings(stream, task.settings)
                settings = task.settings
            stream.encoding = task.encoding
            task.run(stream)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            failed = error
            if isinstance(error, StatementError):
                error.doing, error.statement = error.doing or task.doing, task.statement
        pool.end_task(task, failed)


def apply_settings(stream: StatementStream, settings: Sequence[tuple[str, str]]) -> None:
    """Set the settings of a session; the encoding last, because it changes that of the statements."""
    for name, value in sorted(settings, key=lambda each: each[0] == _ENCODING):
        call = b"SELECT pg_catalog.set_config(%s, %s, false)" % (quote_literal(name), quote_literal(value))
        stream.run(stream.encoded(call))
