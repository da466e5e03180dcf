"""Find the database URL: in the environment, `.env`, `prisma/.env`, or these files of the Prisma folder.

Prisma reads `.env` with node's dotenv; these tasks read it with python-dotenv. The two differ in backticks, `#`,
backslashes and more, and a URL that is read differently may be of another database. So the value is read in both ways,
and it is an error if they differ. `${NAME}` is replaced as by Prisma (`packages/internals/src/dotenvExpand.ts`): only
with braces, and the environment overrides the files (in python-dotenv the file overrides the environment).
"""

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from ..errors import BadInputError
from ..system.processes import read_regular
from .prisma_home import prisma_home

FILES = (".env", "prisma/.env")
# Files that Next.js and Vite read, but neither Prisma nor these tasks.
_OTHER_FILES = (".env.local", ".env.development", ".env.development.local")

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# After a backslash, a reference is not replaced.
_REFERENCE = re.compile(r"(?<!\\)\$\{([A-Za-z0-9_]+)\}")

# dotenv-expand (Next.js, Vite) replaces these, too.
_BARE_REFERENCE = re.compile(r"(?<!\\)\$([A-Za-z_][A-Za-z0-9_]+)")

_DEPTH = 10

# One setting, as node's dotenv 16 and 17 parse it.
_NODE_SETTING = re.compile(
    r"""
    ^ [^\S\n]* (?:export\s+)? (?P<name>[A-Za-z0-9_.-]+)
    (?: \s*= | :\s ) [^\S\n]*
    (?P<value>
        \s*' (?:\\'|[^'])* '
      | \s*" (?:\\"|[^"])* "
      | \s*` (?:\\`|[^`])* `
      | [^#\n]+
    )?
    \s* (?:\#[^\n]*)? $
    """,
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True)
class FoundUrl:
    """A database URL and where it was found.

    :param value: The URL as Prisma gets it, password included.
    :param source: `environment`, or the file's path relative to the root.
    """

    value: str = field(repr=False)
    source: str

    @property
    def location(self) -> str:
        """Return the source, for messages."""
        return "the environment" if self.source == "environment" else self.source


def read_url(name: str, root: Path, environ: Mapping[str, str], prisma_dir: Path | None = None) -> FoundUrl:
    """Find the database URL: in the environment, else in `.env` or `prisma/.env` of the root or the Prisma folder.

    :param name: The variable's name, `DATABASE_URL` by default.
    :param root: The folder of the project.
    :param environ: The environment, which is not changed.
    :param prisma_dir: The configured Prisma folder; None if it is not configured.
    :return: The URL and its source. An empty value counts as set, as for Prisma.
    :raises BadInputError: The name is invalid, the variable is not set, a file can't be read, Prisma and python-dotenv
        read its line differently, or several workspaces have a Prisma schema. No message holds any part of the value.
    """
    if not _VARIABLE_NAME.fullmatch(name):
        # The text may be a URL with a password, so the message does not quote it.
        raise _refusal("--url-env needs the name of an environment variable, such as DATABASE_URL, not the URL itself.")
    if name in environ:
        return FoundUrl(environ[name], "environment")
    texts: list[tuple[str, str]] = []
    folders = [root]
    for folder in folders:
        for path in (folder / file for file in FILES):
            source = os.path.relpath(path, root)
            if (text := _read(path, source)) is not None:
                texts.append((source, text))
                if (value := _setting(name, source, text)) is not None:
                    _refuse_bare_references(value, name, texts, environ)
                    return FoundUrl(_expand(value, name, texts, environ), source)
        if folder == root and (home := prisma_home(root, prisma_dir)) != root:
            folders.append(home)
    raise _not_set(name, root, folders)


def _not_set(name: str, root: Path, folders: Sequence[Path]) -> BadInputError:
    known = [os.path.relpath(folder / file, root) for folder in folders for file in FILES]
    for path in (folder / file for folder in folders for file in _OTHER_FILES):
        source = os.path.relpath(path, root)
        text = _read(path, source)
        if text is not None and name in _as_prisma(text):
            env = os.path.relpath(path.with_name(".env"), root)
            return _refusal(
                f"{name} is set only in {source}, which neither Prisma nor these tasks read.",
                fix=f"Move the line to {env}, which Next.js and Vite read, too.",
            )
    return BadInputError(
        f"{name} is not set in the environment or in a file below {root}: {', '.join(known)}.",
        fix=(
            f'Write {name}="postgresql://user:password@host:5432/database" into .env, or name another variable with '
            "--url-env."
        ),
    )


def _refusal(what: str, fix: str = "") -> BadInputError:
    return BadInputError(what, state="Nothing was contacted.", fix=fix)


def _refuse_bare_references(
    value: str, name: str, texts: Sequence[tuple[str, str]], environ: Mapping[str, str]
) -> None:
    """Raise if a value uses a variable as `$NAME` without braces, which dotenv-expand replaces and Prisma does not."""
    for found in _BARE_REFERENCE.findall(value):
        if found in environ or any(found in _as_prisma(text) for _, text in texts):
            raise _refusal(
                f"{name} in {texts[-1][0]} uses ${found} without braces, which Next.js replaces and Prisma does not.",
                fix=f"Write ${{{found}}}, or %24 for a $ of the URL itself.",
            )


def _read(path: Path, source: str) -> str | None:
    """Return the text of a file; None if it does not exist."""
    try:
        return read_regular(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise _refusal(f"{source} is a folder, not a file.") from None
    except OSError as error:
        raise _refusal(f"{source} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _refusal(f"{source} is not in UTF-8, which Prisma expects.", fix="Save it as UTF-8.") from None


def _setting(name: str, source: str, text: str) -> str | None:
    """Return a variable of a file; None if it is not set.

    :raises BadInputError: Prisma and python-dotenv read it differently.
    """
    by_python = dotenv_values(stream=io.StringIO(text), interpolate=False).get(name)
    by_prisma = _as_prisma(text).get(name)
    if by_python != by_prisma:
        raise _refusal(
            f"{source} sets {name} in a way that Prisma and python-dotenv read differently"
            f"{_found_in_setting(name, text)}.",
            fix=(
                f'Write it on one line, in double quotes: {name}="…", with %23 for a #, %60 for a backtick and %5C for '
                "a backslash in the URL."
            ),
        )
    return by_python


def _found_in_setting(name: str, text: str) -> str:
    """Return what the two may read differently on a variable's lines, in parentheses; empty if nothing is known."""
    lines = re.findall(rf"^[ \t]*(?:export[ \t]+)?{re.escape(name)}[ \t]*([=:].*)$", text, re.MULTILINE)
    signs = {
        "a backtick": "`",
        "a #": "#",
        "a backslash": "\\",
    }
    found = [what for what, sign in signs.items() if any(sign in line for line in lines)]
    found += ["a colon for ="] * any(line.startswith(":") for line in lines)
    return f" ({', '.join(found)})" if found else ""


def _as_prisma(text: str) -> dict[str, str]:
    r"""Return the settings as node's dotenv reads them: without quotes; in double quotes, `\n` and `\r` are escapes."""
    found: dict[str, str] = {}
    for match in _NODE_SETTING.finditer(text):
        value = (match["value"] or "").strip()
        quoted = re.fullmatch(r"(['\"`])(.*)\1", value, re.DOTALL)
        if value.startswith('"'):
            value = value.replace("\\n", "\n").replace("\\r", "\r")
        found[match["name"]] = value[1:-1] if quoted else value
    return found


def _expand(
    value: str,
    name: str,
    texts: Sequence[tuple[str, str]],
    environ: Mapping[str, str],
    depth: int = 0,
) -> str:
    """Replace each `${NAME}` by its value in the environment, else in the files that were read so far, in order."""
    if depth > _DEPTH:
        raise _refusal(f"{name} in {texts[-1][0]} refers to itself through ${{…}}.")

    def value_of(match: re.Match[str]) -> str:
        found = environ.get(match[1])
        for source, text in texts:
            if found is None:
                found = _setting(match[1], source, text)
        if found is None:
            raise _refusal(
                f"{name} in {texts[-1][0]} uses ${{{match[1]}}}, which neither the environment nor a .env file sets."
            )
        return _expand(found, name, texts, environ, depth + 1)

    return _REFERENCE.sub(value_of, value)
