"""The tasks that compare and check, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DifferenceError, MissingProgramError
from .output_checks import show_examined, show_histories, show_verified
from .task import given, load, task
from .terminal import reporting

if TYPE_CHECKING:
    from invoke.context import Context

    from ..doctor.doctor import Examined
    from ..prisma.forecast import KnownHistories
    from ..verify.verify import Verified


@task(
    reads_input=True,
    help={
        "file": "compare with this dump instead of the one last restored",
        "against_url_env": "compare with the database whose URL is in this variable",
    },
)
def verify(
    ctx: Context,
    file: str | None = None,
    against_url_env: str | None = None,
    checksums: bool = False,
    json: bool = False,
    url_env: str | None = None,
) -> Verified:
    """Compare rows, sequences and all objects with the dump; show the migrations and problems of the database."""
    from ..verify.verify import VerifyRequest, verify_database

    loaded = load(ctx, url_env)
    request = VerifyRequest(
        file=given("--file", file), against=given("--against-url-env", against_url_env), checksums=checksums
    )
    with reporting(loaded) as report:
        verified = verify_database(loaded, request, report)
    show_verified(verified, as_json=json)
    if verified.expected and verified.differences:
        raise DifferenceError(f"{verified.target.label} differs from {verified.expected.source}.", result=verified)
    return verified


@task()
def doctor(ctx: Context, json: bool = False, url_env: str | None = None) -> Examined:
    """Check everything that dumps and restores need, and show the fix for each problem; change nothing."""
    from ..doctor.doctor import examine

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        examined = examine(loaded, report)
    show_examined(examined, as_json=json)
    if examined.wrong:
        names = ", ".join(check.name for check in examined.wrong)
        failed = f"{len(examined.wrong)} of {len(examined.checks)} checks failed: {names}."
        raise MissingProgramError(failed, result=examined)
    return examined


@task(
    reads_input=True,
    help={
        "file": "show the migrations of this dump, too",
        "check": "end with exit code 6 if a migration is pending or has failed, or a deploy would be refused",
    },
)
def migrations(
    ctx: Context, file: str | None = None, check: bool = False, json: bool = False, url_env: str | None = None
) -> KnownHistories:
    """Show every migration's state on disk, in the database and, with --file, in a dump."""
    from ..prisma.forecast import read_histories

    loaded = load(ctx, url_env)
    with reporting(loaded) as report:
        histories = read_histories(loaded, given("--file", file), report)
    show_histories(histories, as_json=json)
    if check:
        histories.refuse_undeployed()
    return histories
