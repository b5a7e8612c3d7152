"""Files that are whole or not there at all: written under a temporary name, flushed to disk, renamed.

A process may be killed, or a machine lose its power, between any two lines of this module: under a file's name stands
what stood there before or the new content, never a part of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

__all__ = ["commit_directory", "file_sha256", "replaced_directory", "write_whole"]


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    Args:
        path: File to write, in a directory that is there; what it held is replaced.
        content: Text (written as UTF-8) or bytes.

    Raises:
        OSError: if it cannot be written; what ``path`` held stays.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def commit_directory(part: Path, target: Path) -> None:
    """Give the finished directory ``part`` its name ``target``, in the same parent.

    A directory that stands at ``target`` is renamed aside, to :func:`replaced_directory`, and removed only when the
    new one has its name: at no moment are both gone.

    Args:
        part: Directory of files that are written; they are flushed to disk here.
        target: Its name from now on.

    Raises:
        OSError: if a file cannot be flushed or renamed.
    """
    for path in sorted(part.rglob("*")):
        _flush(path)
    _flush(part)
    aside = replaced_directory(target)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        part.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _flush(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def replaced_directory(target: Path) -> Path:
    """Where :func:`commit_directory` keeps what stood at ``target`` while it is replaced.

    Args:
        target: The directory's name.
    """
    return target.with_name(f".{target.name}.replaced")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
