"""What is no plain dump, told by its first bytes, with what a person can do about it."""

from __future__ import annotations

_EDITED = (
    "encoded as UTF-16, or begins with a byte order mark: an editor or PowerShell's '>' has rewritten it. Make the "
    "dump again with pg_dump's own --file="
)
_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe", _EDITED),
    (b"\xfe\xff", _EDITED),
    (b"\xef\xbb\xbf", _EDITED),
    (b"age-encryption.org/", "encrypted with age: decrypt it first"),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "encrypted with age: decrypt it first"),
    (b"-----BEGIN PGP", "encrypted with PGP: decrypt it first (gpg --decrypt)"),
    (b"Salted__", "encrypted with openssl: decrypt it first"),
    (b"{", "JSON, not a dump: of a dump and its manifest, name the dump"),
    (b"%PDF-", "a PDF, not a dump"),
    (b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"BZh", "compressed with bzip2: expand it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "compressed with xz: expand it first (unxz)"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: expand it first (unlz4)"),
    (b"toc.dat\x00", "an archive in tar format: turn it into text first (pg_restore --file=dump.sql ARCHIVE.tar)"),
    (b"SQLite format 3\x00", "a database of SQLite, not a dump of PostgreSQL"),
    (b"-- MySQL dump", "a dump of MySQL, not of PostgreSQL"),
    (b"-- MariaDB dump", "a dump of MariaDB, not of PostgreSQL"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the dump itself: git lfs pull brings it"),
    (b"<", "a page of HTML or XML, not a dump: perhaps what a server answered instead of the file"),
)
# Only below a compression.
_INSIDE: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "compressed twice: expand it once first (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "compressed twice: expand it once first (unzstd)"),
    (b"PGDMP", "an archive of pg_dump's, compressed once more: expand it first"),
)
# The first major whose pg_restore reads a version of the archive format (K_VERS_… in pg_backup_archiver.h).
_ARCHIVE_MAJORS = {(1, 15): 16, (1, 16): 17}
_LATER, _LATER_MAJOR = range(17, 32), 19


class LexError(ValueError):
    """The text is not a whole plain dump; the message says where and why, without its content."""


def describe_foreign_head(head: bytes, *, inside: bool = False) -> str:
    """Tell what a file or its content is, if it is no plain dump; empty where nothing speaks against it.

    :param head: Its first bytes, 64 or more.
    :param inside: They come from within a compressed file.
    :return: A phrase, to stand behind "it is".
    """
    for magic, what in _HEADS + (_INSIDE if inside else ()):
        if head.startswith(magic):
            return what
    if b"\0" in head or head[:1] >= b"\x80":
        return "not a dump: it holds binary data, or is encrypted"
    return ""


def archive_major(head: bytes) -> int:
    """Return the lowest major version of a pg_restore that reads an archive; 0 for any.

    :param head: Its first bytes: `PGDMP`, then the version of the format.
    """
    version = (head[5], head[6]) if len(head) > 6 else (0, 0)  # noqa: PLR2004 - where the version ends
    # Other numbers are those of a damaged file, or of none.
    later = version[0] == 1 and version[1] in _LATER
    return _LATER_MAJOR if later else _ARCHIVE_MAJORS.get(version, 0)
