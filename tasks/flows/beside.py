"""Work that goes on beside the main thread's, and whose result is asked for later."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class Beside(threading.Thread, Generic[Result]):
    """Does something in a thread of its own, which ends with the program.

    :param work: What it does.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._found: list[Result] = []
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def result(self) -> Result:
        """Wait for what the work returned; raise what it raised."""
        while self.is_alive():
            # A wait without a limit would keep signals from being handled.
            self.join(0.2)
        if self._error is not None:
            raise self._error
        return self._found[0]

    def run(self) -> None:
        """Do the work."""
        try:
            self._found.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error
