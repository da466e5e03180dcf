"""Recognize files that are no plain dumps by their first bytes, and say what to do with them."""

from __future__ import annotations

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some editors write before text in UTF-8; psql skips it, too."""

_EDITED = "encoded as UTF-16: an editor or PowerShell's '>' rewrote it. Make the dump again with pg_dump --file="
_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe", _EDITED),
    (b"\xfe\xff", _EDITED),
    (b"age-encryption.org/", "encrypted with age: decrypt it first"),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "encrypted with age: decrypt it first"),
    (b"-----BEGIN PGP", "encrypted with PGP: decrypt it first (gpg --decrypt)"),
    (b"Salted__", "encrypted with openssl: decrypt it first"),
    (b"{", "JSON, not a dump: give the dump's file, not its manifest"),
    (b"%PDF-", "a PDF, not a dump"),
    (b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"BZh", "compressed with bzip2: expand it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "compressed with xz: expand it first (unxz)"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: expand it first (unlz4)"),
    (b"toc.dat\x00", "an archive in tar format: turn it into text first (pg_restore --file=dump.sql ARCHIVE.tar)"),
    (b"SQLite format 3\x00", "a SQLite database, not a PostgreSQL dump"),
    (b"-- MySQL dump", "a MySQL dump, not a PostgreSQL dump"),
    (b"-- MariaDB dump", "a MariaDB dump, not a PostgreSQL dump"),
    (b"version https://git-lfs", "a Git LFS pointer, not the dump itself: run git lfs pull"),
    (b"<", "HTML or XML, not a dump: perhaps an error page was downloaded instead of the file"),
)
# Inside a compressed file.
_INSIDE: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "compressed twice: expand it once first (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "compressed twice: expand it once first (unzstd)"),
    (b"PGDMP", "a pg_dump archive that was compressed again: expand it first"),
)
# The first major whose pg_restore reads a version of the archive format (K_VERS_… in pg_backup_archiver.h).
_ARCHIVE_MAJORS = {(1, 15): 16, (1, 16): 17}
_LATER, _LATER_MAJOR = range(17, 32), 19


class LexError(ValueError):
    """The text is not a complete plain dump; the message says where and why, without quoting the text."""


def describe_foreign_head(head: bytes, *, inside: bool = False) -> str:
    """Return what a file or its content is, if it is no plain dump; empty if it may be one.

    :param head: Its first bytes, 64 or more.
    :param inside: Whether they are the content of a compressed file.
    :return: A phrase that follows "it is".
    """
    head = head.removeprefix(BYTE_ORDER_MARK)
    for magic, what in _HEADS + (_INSIDE if inside else ()):
        if head.startswith(magic):
            return what
    if b"\0" in head or head[:1] >= b"\x80":
        return "not a dump: it contains binary data or is encrypted"
    return ""


def archive_major(head: bytes) -> int:
    """Return the lowest major version of a pg_restore that reads an archive; 0 for any.

    :param head: Its first bytes: `PGDMP`, then the version of the format.
    """
    version = (head[5], head[6]) if len(head) > 6 else (0, 0)  # noqa: PLR2004 - where the version ends
    # Other numbers mean a damaged file or no archive.
    later = version[0] == 1 and version[1] in _LATER
    return _LATER_MAJOR if later else _ARCHIVE_MAJORS.get(version, 0)
