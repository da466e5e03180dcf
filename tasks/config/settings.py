"""Read Invoke's configuration and the environment into a frozen :class:`Settings`."""

from __future__ import annotations

import enum
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dumpformat.compression import Compression
from ..errors import BadInputError
from ..system.processes import read_environment
from ..system.runtime import count_processors
from .defaults import DEFAULTS
from .dotenv import FoundUrl, read_url
from .keep_policy import KeepPolicy, parse_keep_policy
from .target import Target, sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from invoke.context import Context


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min)?\Z")
# Semicolons and line ends are neither separators nor part of a valid name.
_LISTABLE = re.compile(r"[^;\x00-\x1f\x7f]*\Z").match
_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, None: 1000}
# PostgreSQL stores a timeout as a signed 32-bit number of milliseconds.
_LONGEST = 2**31 - 1
_MOST_JOBS_BY_DEFAULT, _MOST_JOBS = 4, 64
# The key in Invoke's configuration with the dumps of earlier tasks.
_MADE = "invoke_postgres_made"


class Output(enum.Enum):
    """How much is printed."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


@dataclass(frozen=True)
class MadeDump:
    """A dump that an earlier task of the same call of `inv` made.

    :ivar id: All digits of its id.
    :ivar path: Its path then; None for standard output.
    """

    id: str
    path: Path | None


@dataclass(frozen=True)
class Settings:
    """The settings of one task.

    :ivar root: The folder of the `tasks.py` that Invoke loaded; relative paths in the configuration start here.
    :ivar cwd: The working directory; relative paths of flags start here.
    :ivar lock_timeout: In milliseconds; 0 waits without limit.
    :ivar jobs: The number of sessions that load a new database.
    :ivar safety_dumps: The minimum number of the newest safety dumps to keep; 0 makes none.
    :ivar trust_local: Load any dump into a local database as a superuser without asking about its authors.
    :ivar dry: Only show what would be done.
    :ivar keep: The dumps that `db.prune` keeps; None if it is not set.
    :ivar url_env_flag: The flag `--url-env=…` as it was given; empty if it was not.
    :ivar method: How a restore with `--clean` replaces the content: `auto`, `transaction` or `swap`.
    :ivar kept_databases: The number of old databases that restores by swap keep for `db.undo`.
    :ivar disconnect: End the other sessions of the database, as `--disconnect` does.
    :ivar made: The dumps that earlier tasks of the same call made, newest last.
    :ivar as_json: Print only a JSON document on standard output (`--json`).
    """

    root: Path
    cwd: Path
    environ: Mapping[str, str] = field(repr=False)
    dumps: Path
    url_env: str
    bin_dir: Path | None
    prisma_dir: Path | None
    migrate_command: str
    compress: Compression
    safety_dumps: int
    lock_timeout: int
    jobs: int
    protected: tuple[str, ...]
    local: tuple[str, ...]
    trust_local: bool
    output: Output
    dry: bool
    url_env_flag: str = ""
    keep: KeepPolicy | None = None
    as_json: bool = False
    method: str = "auto"
    kept_databases: int = 1
    disconnect: bool = False
    made: tuple[MadeDump, ...] = ()

    def command(self, task: str, *flags: str) -> str:
        """Return the command that runs a task on the same database, as a user types it.

        :param flags: Its other flags; empty ones are left out.
        """
        return " ".join(filter(None, ["inv", task, self.url_env_flag, *flags]))

    def undo_command(self, *, trust: bool, name: str) -> str:
        """Return the command that restores a safety dump.

        :param trust: Add `--trust`.
        :param name: The database's name for `--confirm`; empty if it is not needed.
        """
        return self.command("db.undo", "--trust" * trust, shlex.quote(f"--confirm={name}") if name else "")

    def url(self, name: str = "") -> FoundUrl:
        """Return the database URL.

        :param name: The variable's name; by default the configured one.
        :raises BadInputError: There is none, or it is ambiguous.
        """
        return read_url(name or self.url_env, self.root, self.environ, self.prisma_dir)

    def target(self, name: str = "") -> Target:
        """Return the database URL, translated for libpq.

        :param name: The variable's name; by default the configured one.
        :raises BadInputError: As :meth:`url` and :func:`sanitize`. Nothing was contacted.
        """
        found = self.url(name)
        target = sanitize(found.value, prisma_dir=self.root / "prisma")
        return replace(target, origin=f"{name or self.url_env} from {found.location}")


def load_settings(ctx: Context, *, url_env: str = "", as_json: bool = False, jobs: str = "") -> Settings:
    """Read the settings for one task.

    :param ctx: The task's context.
    :param url_env: The task's `--url-env`, which overrides the configuration.
    :param as_json: The task's `--json`.
    :param jobs: The task's `--jobs`, which overrides the configuration.
    :raises BadInputError: A value is invalid; the message has its name and the allowed values.
    """
    root = Path(getattr(ctx.config, "_project_prefix", None) or Path.cwd()).resolve()
    environ = read_environment()
    values = _values(ctx, environ)
    return Settings(
        root=root,
        cwd=Path.cwd(),
        environ=environ,
        dumps=root / _path("dumps_dir", values, required=True),
        url_env=url_env or _text("url_env", values, required=True),
        url_env_flag=f"--url-env={url_env}" if url_env else "",
        bin_dir=root / _path("bin_dir", values) if _text("bin_dir", values) else None,
        prisma_dir=root / _path("prisma_dir", values) if _text("prisma_dir", values) else None,
        migrate_command=_text("migrate_command", values),
        compress=Compression(_choice("compress", values, [each.value for each in Compression])),
        safety_dumps=_safety_dumps(values, environ),
        lock_timeout=_milliseconds("lock_timeout", values),
        jobs=_jobs(values, jobs),
        protected=_list("protected", values),
        local=_list("local", values),
        trust_local=_choice("trust", values, ["ask", "local"]) == "local",
        output=Output(_choice("output", values, [each.value for each in Output])),
        dry=bool(ctx.config.run.dry),
        keep=_keep(values),
        as_json=as_json,
        method=_choice("method", values, ["auto", "transaction", "swap"]),
        kept_databases=_count("kept_databases", values),
        disconnect=_choice("disconnect", values, ["no", "yes"]) == "yes",
        made=ctx.config.get(_MADE, ()),
    )


def remember_dump(ctx: Context, dump: MadeDump) -> None:
    """Let the later tasks of the same call know of a dump: Invoke hands its configuration from task to task."""
    ctx.config.update({_MADE: (*ctx.config.get(_MADE, ()), dump)})


def _values(ctx: Context, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings below `db`; raise for unknown ones, because a misspelt `protected` would have no effect."""
    given = ctx.config.get("db", {})
    if not hasattr(given, "get"):
        raise BadInputError(
            "The configuration's `db` must be a mapping, as in `db: {compress: gzip}`.", state="Nothing was touched."
        )
    for name in ("protected", "local"):
        if name in ctx.config:
            raise BadInputError(
                f"The configuration has `{name}` at its top level, where it has no effect.",
                state="Nothing was touched.",
                fix=f"Put it below `db:`, as in `db: {{{name}: [name]}}`.",
            )
    prefix = "INVOKE_DB_"
    named = [(name, f"db.{name}") for name in given]
    named += [(name.removeprefix(prefix).lower(), name) for name in environ if name.startswith(prefix)]
    for name, written in named:
        if name not in DEFAULTS:
            known = ", ".join(DEFAULTS)
            raise BadInputError(
                f"There is no setting {written}; the settings are {known}.", state="Nothing was touched."
            )
    # Invoke reads variables only for settings that it knows. If a project's own task calls one of these tasks, it
    # knows only those of the configuration file.
    return {
        name: given.get(name, environ.get(f"{prefix}{name.upper()}", default)) for name, default in DEFAULTS.items()
    }


def _text(name: str, values: Mapping[str, Any], *, required: bool = False) -> str:
    given = values[name]
    if isinstance(given, bool) or not isinstance(given, str | int | float | None):
        raise _refused(name, values, "must be a text or a number")
    value = str("" if given is None else given).strip()
    if required and not value:
        raise _refused(name, values, "must not be empty")
    return value


def _path(name: str, values: Mapping[str, Any], *, required: bool = False) -> Path:
    """Return a setting as a path, with `~` expanded, which no shell does in a configuration file."""
    try:
        return Path(_text(name, values, required=required)).expanduser()
    except RuntimeError as error:
        raise _refused(name, values, f"can't be used ({error})") from None


def _choice(name: str, values: Mapping[str, Any], allowed: list[str]) -> str:
    value = _text(name, values).lower() or DEFAULTS[name]
    if value not in allowed:
        raise _refused(name, values, f"must be one of {', '.join(allowed)}")
    return value


def _count(name: str, values: Mapping[str, Any]) -> int:
    value = _text(name, values)
    if not value.isascii() or not value.isdigit():
        raise _refused(name, values, "must be a whole number, 0 or more")
    return int(value)


def _safety_dumps(values: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Return the number of safety dumps to keep; `backup` is the setting's old name."""
    if not _text("backup", values):
        return _count("safety_dumps", values)
    count, variable = _count("backup", values), "INVOKE_DB_SAFETY_DUMPS"
    is_set = variable in environ or values["safety_dumps"] != DEFAULTS["safety_dumps"]
    if is_set and _count("safety_dumps", values) != count:
        raise BadInputError(
            f"The setting db.backup (INVOKE_DB_BACKUP) is the old name of db.safety_dumps ({variable}), and they "
            f"differ: {values['backup']!r} and {values['safety_dumps']!r}.",
            state="Nothing was touched.",
            fix="Remove db.backup.",
        )
    return count


def _jobs(values: Mapping[str, Any], flag: str) -> int:
    """Return the number of sessions, by default one for each processor, but at most four."""
    value = flag or _text("jobs", values)
    if not value:
        return min(count_processors(), _MOST_JOBS_BY_DEFAULT)
    if value.isascii() and value.isdigit() and 0 < int(value) <= _MOST_JOBS:
        return int(value)
    rule = f"must be a whole number from 1 to {_MOST_JOBS}"
    if flag:
        raise BadInputError(f"--jobs {rule}; it is {flag!r}. Nothing was touched.")
    raise _refused("jobs", values, rule)


def _keep(values: Mapping[str, Any]) -> KeepPolicy | None:
    try:
        return parse_keep_policy(_text("keep", values))
    except ValueError as error:
        raise _refused("keep", values, str(error)) from None


def _milliseconds(name: str, values: Mapping[str, Any]) -> int:
    found = _DURATION.match(_text(name, values))
    if found is None:
        raise _refused(name, values, "must be a duration such as 10s, 500ms or 2min")
    duration = round(float(found[1]) * _MILLISECONDS[found[2]])
    if duration > _LONGEST:
        raise _refused(name, values, "is longer than PostgreSQL can wait (24 days)")
    return duration


def _list(name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a setting as a list of names; raise for other values, which would protect nothing."""
    value = "" if values[name] is None else values[name]
    given = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(each, bool) or not isinstance(each, str | int) or not _LISTABLE(str(each)) for each in given):
        raise _refused(name, values, "must be a list of names, or one text with commas between them")
    return tuple(text for each in given for part in str(each).split(",") if (text := part.strip()))


def _refused(name: str, values: Mapping[str, Any], rule: str) -> BadInputError:
    return BadInputError(
        f"The setting db.{name} (INVOKE_DB_{name.upper()}) {rule}; it is {values[name]!r}.",
        state="Nothing was touched.",
    )
