"""What `inv bench` was asked for, cast once."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import BadInputError

# In the order in which they are built and measured.
DATABASES = ("journal", "tenth", "many", "huge", "wide", "inserts", "empty")
# Those that the targets are about.
NEEDED = frozenset({"journal", "tenth", "empty"})
SMALLEST = 200


@dataclass(frozen=True)
class Options:
    """One run.

    :ivar scale: Events of the journal database, from which the sizes of the others follow.
    :ivar rounds: Times that each command is measured.
    :ivar databases: Which, in the order of :data:`DATABASES`.
    :ivar only: Words, of which a command's name must hold one; none for all commands.
    :ivar keep: Leave the working folder.
    """

    scale: int = 1_500_000
    rounds: int = 3
    databases: tuple[str, ...] = DATABASES
    only: tuple[str, ...] = ()
    keep: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing was left out that a target needs."""
        return frozenset(self.databases) >= NEEDED and not self.only

    @property
    def command(self) -> str:
        """The command that asks for this."""
        words = ["uv run inv bench", f"--scale={self.scale}", f"--rounds={self.rounds}"]
        if self.databases != DATABASES:
            words.append(f"--databases={','.join(self.databases)}")
        if self.only:
            words.append(f"--only={','.join(self.only)}")
        return " ".join(words)


def read(*, scale: str, rounds: str, databases: str, only: str, keep: bool) -> Options:
    """Cast the flags.

    :raises BadInputError: One can't be used; says which, and what it may be. Nothing was started.
    """
    chosen = _words(databases)
    if unknown := [name for name in chosen if name not in DATABASES]:
        raise BadInputError(f"--databases={unknown[0]} is none of {', '.join(DATABASES)}. Nothing was started.")
    return Options(
        scale=_number("--scale", scale, least=SMALLEST),
        rounds=_number("--rounds", rounds, least=1),
        databases=tuple(name for name in DATABASES if name in chosen) or DATABASES,
        only=_words(only),
        keep=keep,
    )


def _words(value: str) -> tuple[str, ...]:
    return tuple(word for word in (each.strip() for each in value.split(",")) if word)


def _number(flag: str, value: str, *, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise BadInputError(f"{flag}={value} is no whole number of at least {least}. Nothing was started.")
    return number
