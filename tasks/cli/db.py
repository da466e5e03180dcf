"""The tasks under `db`: flags in, one flow called, its result shown."""

from __future__ import annotations

import atexit
import gc
from typing import TYPE_CHECKING, Any

from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from ..errors import BadInputError, DifferenceError, InterruptedBySignalError, MissingProgramError
from ..system.runtime import Interruption, interruptible, standard_streams
from .confirm import confirm_reset, confirm_restore
from .output import (
    show_converted,
    show_dumped,
    show_examined,
    show_histories,
    show_inspected,
    show_listing,
    show_rehearsed,
    show_reset,
    show_restored,
    show_url,
    show_verified,
)
from .terminal import reporting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from invoke.context import Context

    from ..config.settings import Settings
    from ..dumpformat.compression import Compression
    from ..restore.plan import RestorePlan


if TYPE_CHECKING:
    Decorator = Callable[[Callable[..., None]], Task[Any]]


class RepeatableTask(Task):  # type: ignore[type-arg]
    """A task that runs each time it stands on the command line, and ends in a sentence when a signal comes.

    Invoke runs equal tasks once, so no task of ours equals another.
    """

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = Task.__hash__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body with signals handled."""
        # What is loaded goes with the process: to look for garbage in it when all ends takes some 70 ms.
        atexit.register(gc.freeze)
        try:
            with standard_streams(), interruptible():
                return super().__call__(*args, **kwargs)
        except Interruption as interruption:
            raise InterruptedBySignalError(
                interruption.signum, f"Interrupted ({interruption}). {interruption.state or 'Nothing was touched.'}"
            ) from None


def task(*, help: Mapping[str, str], iterable: Sequence[str] = (), name: str | None = None) -> Decorator:  # noqa: A002
    """Make a task of ours; the parameters are Invoke's own.

    Automatic short flags would take `-h`, `-f` and others from Invoke itself.
    """
    made: Decorator = invoke_task(
        klass=RepeatableTask, auto_shortflags=False, help=dict(help), iterable=list(iterable), name=name
    )
    return made


_URL_ENV = "name of the environment variable that holds the URL, instead of DATABASE_URL"
_FILE = "the dump: a path, or a name in the dumps folder; by default the newest by the time in its name"
_YES = "do not wait three seconds before beginning"
_TRUST = "as a superuser, load what other roles or other people wrote, without a question"
_JSON = "print JSON, for programs"
_CONFIRM = "the name of the database, where it is not local and may all the same be destroyed"
_DISCONNECT = "end the other sessions of the database first, if the role may"
_NO_BACKUP = "make no safety dump of what is there now, so that nothing can bring it back"


@task(help={"url_env": _URL_ENV})
def url(ctx: Context, url_env: str | None = None) -> None:
    """Show the connection as libpq gets it, with the password masked."""
    show_url(_load(ctx, url_env))


@task(
    iterable=["exclude_data"],
    help={
        "gzip": "compress with gzip (.sql.gz)",
        "zstd": "compress with zstd (.sql.zst)",
        "file": "where to, instead of a name made of the time",
        "note": "a note for the manifest, shown by db.list",
        "checksums": "add a checksum of every table's content, computed by the server in the same snapshot",
        "exclude_data": "leave out the rows of tables of this pattern (repeats); their definitions stay",
        "url_env": _URL_ENV,
    },
)
def dump(
    ctx: Context,
    gzip: bool = False,
    zstd: bool = False,
    file: str | None = None,
    note: str = "",
    exclude_data: list[str] | None = None,
    checksums: bool = False,
    url_env: str | None = None,
) -> None:
    """Dump the whole database into one file, with a manifest beside it."""
    from ..dump.dump import make_dump
    from ..dump.request import DumpRequest

    loaded = _load(ctx, url_env)
    request = DumpRequest(
        _compression(gzip=gzip, zstd=zstd), _given("--file", file), note, tuple(exclude_data or ()), checksums
    )
    with reporting(loaded) as report:
        dumped = make_dump(loaded, request, report)
    if dumped is not None:
        show_dumped(dumped, loaded.output)


@task(help={"file": _FILE})
def gzip(ctx: Context, file: str | None = None) -> None:
    """Compress a dump in place, and keep its manifest true."""
    from ..dumpformat.compression import Compression

    _convert(ctx, file, Compression.GZIP)


@task(help={"file": _FILE})
def gunzip(ctx: Context, file: str | None = None) -> None:
    """Expand a dump in place, and keep its manifest true."""
    from ..dumpformat.compression import Compression

    _convert(ctx, file, Compression.NONE)


@task(name="list", help={"json": _JSON})
def list_(ctx: Context, json: bool = False) -> None:
    """List the dumps: when, size, rows, server, note, and whether each is whole as far as its size tells."""
    from ..dumpfiles.catalog import list_catalog

    show_listing(list_catalog(_load(ctx)), as_json=json)


@task(
    iterable=["schema"],
    help={
        "schema": "schema to empty (repeats); the URL's schema= by default, else public",
        "yes": _YES,
        "confirm": _CONFIRM,
        "disconnect": _DISCONNECT,
        "no_backup": _NO_BACKUP,
        "url_env": _URL_ENV,
    },
)
def reset(
    ctx: Context,
    schema: list[str] | None = None,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    no_backup: bool = False,
    url_env: str | None = None,
) -> None:
    """Empty schemas, keeping their owner, grants, default privileges, comment and extensions."""
    from ..restore.reset import plan_reset, reset_database

    loaded = _load(ctx, url_env)
    plan = plan_reset(loaded, schema or [], backup=not no_backup, disconnect=disconnect)
    confirm_reset(plan, yes=yes, name=_given("--confirm", confirm))
    if not loaded.dry:
        with reporting(loaded) as report:
            saved = reset_database(plan, report)
        show_reset(plan, saved)


@task(
    help={
        "file": _FILE,
        "clean": "empty the schemas that the dump fills first, so that they hold exactly what the dump holds",
        "yes": _YES,
        "confirm": _CONFIRM,
        "disconnect": _DISCONNECT,
        "no_owner": "leave out the dump's owners: everything is yours",
        "no_acl": "leave out the dump's grants",
        "checksums": "compare the content of every table, too (of dumps made with --checksums)",
        "no_backup": _NO_BACKUP,
        "trust": _TRUST,
        "migrate": "apply the pending migrations in the same step: if one fails, the database is again as it was",
        "strict": "refuse a dump that names roles which are missing here, or after which no migration can be applied",
        "url_env": _URL_ENV,
    }
)
def restore(
    ctx: Context,
    file: str | None = None,
    clean: bool = False,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    no_owner: bool = False,
    no_acl: bool = False,
    strict: bool = False,
    checksums: bool = False,
    no_backup: bool = False,
    migrate: bool = False,
    trust: bool = False,
    url_env: str | None = None,
) -> None:
    """Restore a dump in one transaction, verified before it is committed."""
    from ..restore.plan import RestoreRequest, plan_restore
    from ..restore.with_migration import plan_restore_and_migration

    loaded = _load(ctx, url_env)
    choices = {"strict": strict, "checksums": checksums, "migrate": migrate, "disconnect": disconnect, "trust": trust}
    request = RestoreRequest(_given("--file", file), clean, not no_owner, not no_acl, backup=not no_backup, **choices)
    with reporting(loaded) as report:
        plan = (plan_restore_and_migration if migrate else plan_restore)(loaded, request, report)
    _carry_out(plan, yes=yes, name=_given("--confirm", confirm))


@task(
    help={
        "yes": _YES,
        "confirm": _CONFIRM,
        "disconnect": _DISCONNECT,
        "no_backup": _NO_BACKUP,
        "trust": _TRUST,
        "url_env": _URL_ENV,
    }
)
def undo(
    ctx: Context,
    yes: bool = False,
    confirm: str | None = None,
    disconnect: bool = False,
    no_backup: bool = False,
    trust: bool = False,
    url_env: str | None = None,
) -> None:
    """Bring back what the database held before the last restore over it, reset or undo."""
    from ..restore.undo import plan_undo

    loaded = _load(ctx, url_env)
    with reporting(loaded) as report:
        plan = plan_undo(loaded, report, backup=not no_backup, disconnect=disconnect, trust=trust)
    _carry_out(plan, yes=yes, name=_given("--confirm", confirm))


@task(
    help={
        "file": "compare with this dump instead of the one last restored",
        "against_url_env": "compare with another live database, whose URL this variable holds",
        "checksums": "compare the content of every table, too (of dumps made with --checksums)",
        "json": _JSON,
        "url_env": _URL_ENV,
    }
)
def verify(
    ctx: Context,
    file: str | None = None,
    against_url_env: str | None = None,
    checksums: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> None:
    """Compare rows, sequences and every object with the dump; show the history and what is wrong in itself."""
    from ..verify.verify import VerifyRequest, verify_database

    loaded = _load(ctx, url_env)
    request = VerifyRequest(_given("--file", file), _given("--against-url-env", against_url_env), checksums)
    with reporting(loaded) as report:
        verified = verify_database(loaded, request, report)
    show_verified(verified, as_json=json)
    if verified.expected and verified.differences:
        raise DifferenceError(f"{verified.target.label} differs from {verified.expected.source}.")


@task(help={"file": _FILE, "trust": _TRUST, "url_env": _URL_ENV})
def rehearse(ctx: Context, file: str | None = None, trust: bool = False, url_env: str | None = None) -> None:
    """Restore a dump into a scratch database beside the real one, verify and migrate it, and remove it."""
    from ..restore.rehearse import rehearse_dump

    loaded = _load(ctx, url_env)
    with reporting(loaded) as report:
        rehearsed = rehearse_dump(loaded, _given("--file", file), report, trust=trust)
    if rehearsed is not None:
        show_rehearsed(rehearsed)
        rehearsed.restored.refuse_differences(f"{rehearsed.path.name} restores")


@task(help={"json": _JSON, "url_env": _URL_ENV})
def doctor(ctx: Context, json: bool = False, url_env: str | None = None) -> None:
    """Look at everything that dumps and restores rely on, and say what is wrong and what helps; change nothing."""
    from ..doctor.doctor import examine

    loaded = _load(ctx, url_env)
    with reporting(loaded) as report:
        examined = examine(loaded, report)
    show_examined(examined, as_json=json)
    if examined.wrong:
        names = ", ".join(check.name for check in examined.wrong)
        raise MissingProgramError(f"{len(examined.wrong)} of {len(examined.checks)} checks went wrong: {names}.")


@task(help={"file": _FILE, "json": _JSON})
def inspect(ctx: Context, file: str | None = None, json: bool = False) -> None:
    """Show what a dump holds: tables, rows, sizes, migrations, versions, note."""
    from ..dumpfiles.catalog import inspect_dump

    loaded = _load(ctx)
    with reporting(loaded) as report:
        inspected = inspect_dump(loaded, _given("--file", file), report)
    show_inspected(inspected, as_json=json)


@task(help={"file": "show the dump's own history, too", "json": _JSON, "url_env": _URL_ENV})
def migrations(ctx: Context, file: str | None = None, json: bool = False, url_env: str | None = None) -> None:
    """Show every migration's state on disk, in the database and, with --file, in a dump."""
    from ..prisma.forecast import read_histories

    loaded = _load(ctx, url_env)
    with reporting(loaded) as report:
        histories = read_histories(loaded, _given("--file", file), report)
    show_histories(histories, as_json=json)


@task(help={"url_env": _URL_ENV})
def migrate(ctx: Context, url_env: str | None = None) -> None:
    """Apply the pending migrations: `prisma migrate deploy` with the project's own Prisma."""
    from ..prisma.migrate import run_migrations

    loaded = _load(ctx, url_env)
    with reporting(loaded) as report:
        run_migrations(loaded, report)


@task(help={"url_env": _URL_ENV})
def generate(ctx: Context, url_env: str | None = None) -> None:
    """Generate the client: `prisma generate` with the project's own Prisma."""
    from ..prisma.migrate import generate_client

    loaded = _load(ctx, url_env)
    with reporting(loaded) as report:
        generate_client(loaded, report)


def _carry_out(plan: RestorePlan, *, yes: bool, name: str) -> None:
    from ..restore.restore import restore_dump
    from ..restore.with_migration import restore_and_migrate

    plan = confirm_restore(plan, yes=yes, name=name)
    if not plan.settings.dry:
        act = restore_and_migrate if plan.request.migrate else restore_dump
        with reporting(plan.settings) as report:
            restored = act(plan, report)
        show_restored(restored)
        restored.refuse_differences(f"The restore into {plan.target.label} is committed")


def _load(ctx: Context, url_env: str | None = None) -> Settings:
    from ..config.settings import load_settings

    return load_settings(ctx, url_env=_given("--url-env", url_env))


def _given(flag: str, value: str | None) -> str:
    """Take a flag's value; an empty one is most likely a shell's variable that is not set, and no default."""
    if value is not None and not value.strip():
        raise BadInputError(f"{flag}= is empty; leave it out, or name something. Nothing was touched.")
    return value or ""


def _compression(*, gzip: bool, zstd: bool) -> Compression | None:
    from ..dumpformat.compression import Compression

    if gzip and zstd:
        raise BadInputError("--gzip and --zstd do not go together. Nothing was touched.")
    return Compression.GZIP if gzip else Compression.ZSTD if zstd else None


def _convert(ctx: Context, file: str | None, wanted: Compression) -> None:
    from ..dumpfiles.convert import convert_dump

    loaded = _load(ctx)
    with reporting(loaded) as report:
        converted = convert_dump(loaded, _given("--file", file), wanted, report)
    if not loaded.dry and loaded.output.value != "quiet":
        show_converted(converted)
