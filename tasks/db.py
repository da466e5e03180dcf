"""The tasks under `db`: flags in, one flow called, its result shown."""

from __future__ import annotations

import atexit
import gc
from typing import TYPE_CHECKING, Any

from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from . import confirming, console, process, showing
from .errors import BadInputError, DifferenceError, InterruptedBySignalError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from invoke.context import Context

    from .archive.codec import Compression
    from .flows.restoring import Plan as RestorePlan
    from .settings import Settings

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
            with process.standard_streams(), process.interruptible():
                return super().__call__(*args, **kwargs)
        except process.Interruption as interruption:
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
    showing.show_url(_load(ctx, url_env))


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
    from .flows import dumping

    loaded = _load(ctx, url_env)
    request = dumping.Request(
        _compression(gzip=gzip, zstd=zstd), _given("--file", file), note, tuple(exclude_data or ()), checksums
    )
    with console.reporting(loaded) as report:
        dumped = dumping.dump(loaded, request, report)
    if dumped is not None:
        showing.show_dumped(dumped, loaded.output)


@task(help={"file": _FILE})
def gzip(ctx: Context, file: str | None = None) -> None:
    """Compress a dump in place, and keep its manifest true."""
    from .archive.codec import Compression

    _convert(ctx, file, Compression.GZIP)


@task(help={"file": _FILE})
def gunzip(ctx: Context, file: str | None = None) -> None:
    """Expand a dump in place, and keep its manifest true."""
    from .archive.codec import Compression

    _convert(ctx, file, Compression.NONE)


@task(name="list", help={"json": _JSON})
def list_(ctx: Context, json: bool = False) -> None:
    """List the dumps: when, size, rows, server, note, and whether each is whole as far as its size tells."""
    from .flows import listing

    showing.show_listing(listing.listing(_load(ctx)), as_json=json)


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
    from .flows import resetting

    loaded = _load(ctx, url_env)
    plan = resetting.plan(loaded, schema or [], backup=not no_backup, disconnect=disconnect)
    confirming.confirm_reset(plan, yes=yes, name=_given("--confirm", confirm))
    if not loaded.dry:
        with console.reporting(loaded) as report:
            saved = resetting.reset(plan, report)
        showing.show_reset(plan, saved)


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
    from .flows import migrating, restoring

    loaded = _load(ctx, url_env)
    choices = {"strict": strict, "checksums": checksums, "migrate": migrate, "disconnect": disconnect, "trust": trust}
    request = restoring.Request(
        _given("--file", file), clean, not no_owner, not no_acl, backup=not no_backup, **choices
    )
    with console.reporting(loaded) as report:
        plan = (migrating.plan_both if migrate else restoring.plan)(loaded, request, report)
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
    from .flows import undoing

    loaded = _load(ctx, url_env)
    with console.reporting(loaded) as report:
        plan = undoing.plan(loaded, report, backup=not no_backup, disconnect=disconnect, trust=trust)
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
    from .flows import verifying

    loaded = _load(ctx, url_env)
    request = verifying.Request(_given("--file", file), _given("--against-url-env", against_url_env), checksums)
    with console.reporting(loaded) as report:
        verified = verifying.verify(loaded, request, report)
    showing.show_verified(verified, as_json=json)
    if verified.expected and verified.differences:
        raise DifferenceError(f"{verified.target.label} differs from {verified.expected.source}.")


@task(help={"file": _FILE, "trust": _TRUST, "url_env": _URL_ENV})
def rehearse(ctx: Context, file: str | None = None, trust: bool = False, url_env: str | None = None) -> None:
    """Restore a dump into a scratch database beside the real one, verify and migrate it, and remove it."""
    from .flows import rehearsing

    loaded = _load(ctx, url_env)
    with console.reporting(loaded) as report:
        rehearsed = rehearsing.rehearse(loaded, _given("--file", file), report, trust=trust)
    if rehearsed is not None:
        showing.show_rehearsed(rehearsed)
        rehearsed.restored.refuse_differences(f"{rehearsed.path.name} restores")


@task(help={"json": _JSON, "url_env": _URL_ENV})
def doctor(ctx: Context, json: bool = False, url_env: str | None = None) -> None:
    """Look at everything that dumps and restores rely on, and say what is wrong and what helps; change nothing."""
    from .flows import examining

    loaded = _load(ctx, url_env)
    with console.reporting(loaded) as report:
        examined = examining.examine(loaded, report)
    showing.show_examined(examined, as_json=json)
    if examined.wrong:
        names = ", ".join(check.name for check in examined.wrong)
        raise MissingProgramError(f"{len(examined.wrong)} of {len(examined.checks)} checks went wrong: {names}.")


@task(help={"file": _FILE, "json": _JSON})
def inspect(ctx: Context, file: str | None = None, json: bool = False) -> None:
    """Show what a dump holds: tables, rows, sizes, migrations, versions, note."""
    from .flows import inspecting

    loaded = _load(ctx)
    with console.reporting(loaded) as report:
        inspected = inspecting.inspect(loaded, _given("--file", file), report)
    showing.show_inspected(inspected, as_json=json)


@task(help={"file": "show the dump's own history, too", "json": _JSON, "url_env": _URL_ENV})
def migrations(ctx: Context, file: str | None = None, json: bool = False, url_env: str | None = None) -> None:
    """Show every migration's state on disk, in the database and, with --file, in a dump."""
    from .flows import foresight

    loaded = _load(ctx, url_env)
    with console.reporting(loaded) as report:
        histories = foresight.histories(loaded, _given("--file", file), report)
    showing.show_histories(histories, as_json=json)


@task(help={"url_env": _URL_ENV})
def migrate(ctx: Context, url_env: str | None = None) -> None:
    """Apply the pending migrations: `prisma migrate deploy` with the project's own Prisma."""
    from .flows import migrating

    loaded = _load(ctx, url_env)
    with console.reporting(loaded) as report:
        migrating.migrate(loaded, report)


@task(help={"url_env": _URL_ENV})
def generate(ctx: Context, url_env: str | None = None) -> None:
    """Generate the client: `prisma generate` with the project's own Prisma."""
    from .flows import migrating

    loaded = _load(ctx, url_env)
    with console.reporting(loaded) as report:
        migrating.generate(loaded, report)


def _carry_out(plan: RestorePlan, *, yes: bool, name: str) -> None:
    from .flows import migrating, restoring

    confirming.confirm_restore(plan, yes=yes, name=name)
    if not plan.settings.dry:
        act = migrating.restore_and_migrate if plan.request.migrate else restoring.restore
        with console.reporting(plan.settings) as report:
            restored = act(plan, report)
        showing.show_restored(restored)
        restored.refuse_differences(f"The restore into {plan.target.label} is committed")


def _load(ctx: Context, url_env: str | None = None) -> Settings:
    from . import settings

    return settings.load(ctx, url_env=_given("--url-env", url_env))


def _given(flag: str, value: str | None) -> str:
    """Take a flag's value; an empty one is most likely a shell's variable that is not set, and no default."""
    if value is not None and not value.strip():
        raise BadInputError(f"{flag}= is empty; leave it out, or name something. Nothing was touched.")
    return value or ""


def _compression(*, gzip: bool, zstd: bool) -> Compression | None:
    from .archive.codec import Compression

    if gzip and zstd:
        raise BadInputError("--gzip and --zstd do not go together. Nothing was touched.")
    return Compression.GZIP if gzip else Compression.ZSTD if zstd else None


def _convert(ctx: Context, file: str | None, wanted: Compression) -> None:
    from .flows import compressing

    loaded = _load(ctx)
    with console.reporting(loaded) as report:
        converted = compressing.convert(loaded, _given("--file", file), wanted, report)
    if not loaded.dry and loaded.output.value != "quiet":
        showing.show_converted(converted)
