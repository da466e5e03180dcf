"""Cuts and flipped bits in a dump, with a manifest beside it and without."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults import files
from tests.faults.files import Violation
from tests.faults.lane import OPERATIONS, Lane
from tests.faults.pipe import Pipe

FORMS: Final = ("gzip, no manifest", "zstd, no manifest", "plain with manifest", "plain, no manifest")
BLIND: Final = "plain, no manifest"
"""The one in which a flipped bit can go unseen: nothing vouches for the values in it."""
KINDS: Final = ("cut", "flip")
UNPROVABLE: Final = "No manifest, so contents were not verified"


@dataclass(frozen=True)
class Damaged:
    """What a damaged dump led to.

    :ivar state: `old`, `new` or `damaged`, by us; `psql` the same by psql, and `psql_code` its exit code.
    """

    kind: str
    form: str
    state: str
    code: int
    psql: str
    psql_code: int


def broken(content: bytes, kind: str, chance: random.Random) -> bytes:
    """Cut a file somewhere, or flip one of its bits."""
    place = chance.randrange(1, len(content))
    if kind == "cut":
        return content[:place]
    flipped = content[place] ^ (1 << chance.randrange(8))
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def damage(lane: Lane, pipe: Pipe, kind: str, form: str) -> Damaged:
    """Damage a dump and restore it, with us and with psql.

    :raises Violation: A promise was broken.
    """
    lane.lay_out("restore")
    path = lay_down(lane, form)
    path.write_bytes(broken(path.read_bytes(), kind, lane.chance))
    kept = lane.root / path.name
    kept.write_bytes(path.read_bytes())
    args = (*OPERATIONS["restore"], "--no-backup", f"--file={path.name}")
    ended = lane.run(*args, operation="restore")
    lane.drain()
    content, states = lane.content(), lane.states["restore"]
    state = {states["old"]: "old", states["new"]: "new"}.get(content, "damaged")
    if state != "old":
        lane.forget()
    if (state == "old") != (ended.code in {2, 5}) or (state != "old") != (ended.code == 0):
        raise Violation(f"{kind} of {form}: the state is {state}, and {ended}")
    if state == "damaged" and (kind, form) != ("flip", BLIND):
        raise Violation(f"{kind} of {form}: damage went in: {ended}")
    if state != "old" and "no manifest" in form and UNPROVABLE not in ended.said:
        raise Violation(f"{kind} of {form}: nobody said that nothing vouches for it: {ended}")
    psql, psql_code = pipe.fed(kept)
    kept.unlink()
    return Damaged(kind, form, state, ended.code, psql, psql_code)


def lay_down(lane: Lane, form: str) -> Path:
    """Put the dump into the project's folder in a form, in place of the one that is there."""
    (given,) = files.finals(lane.project.dumps)
    text = files.text_of(given)
    path = given
    if form.startswith("zstd"):
        path = given.with_name(f"{files.stem(given)}.sql.zst")
        path.write_bytes(files.compressed(text))
    elif form.startswith("plain"):
        path = given.with_name(f"{files.stem(given)}.sql")
        path.write_bytes(text)
    if path != given:
        given.unlink()
    if "no manifest" in form:
        given.with_name(files.stem(given) + files.MANIFEST).unlink()
    return path
