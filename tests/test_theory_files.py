"""Files and directories that are whole or not there, wherever the process is stopped."""

import os
from pathlib import Path

import pytest

from latebloom.theory import files
from latebloom.theory.files import commit_directory, file_sha256, replaced_directory, write_whole


class Killed(BaseException):
    """What a test raises where a process would be killed."""


def killed_at(monkeypatch, call):
    """Have the ``call``-th flush or rename from now on never come back."""
    calls = [0]

    def counted(real):
        def act(*arguments, **options):
            calls[0] += 1
            if calls[0] == call:
                raise Killed
            return real(*arguments, **options)

        return act

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(files.shutil, "rmtree", counted(files.shutil.rmtree))
    return calls


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_file_is_the_old_or_the_new_one(call, tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    write_whole(path, "old")
    with monkeypatch.context() as patch:
        killed_at(patch, call)
        with pytest.raises(Killed):
            write_whole(path, b"new")
    assert path.read_text() == ("old" if call < 3 else "new")
    write_whole(path, "newer")
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    write_whole(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_directory_is_replaced_and_never_gone(tmp_path, monkeypatch):
    """At every flush, rename and removal: the old one or the new one is whole, under its name or put aside."""
    target, last = tmp_path / "run", 0
    for call in range(1, 30):
        for path in tmp_path.iterdir():
            files.shutil.rmtree(path)
        for folder, content in ((target, "old"), (tmp_path / ".run.part", "new")):
            folder.mkdir()
            (folder / "file").write_text(content)
        with monkeypatch.context() as patch:
            killed_at(patch, call)
            try:
                commit_directory(tmp_path / ".run.part", target)
            except Killed:
                last = call
        standing = target if target.exists() else replaced_directory(target)
        assert (standing / "file").read_text() in ("old", "new")
    assert last >= 6  # file, directory, aside, rename, parent, removal
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert (target / "file").read_text() == "new"


def test_a_failed_rename_puts_the_old_directory_back(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").write_text("old")
    with pytest.raises(FileNotFoundError):
        commit_directory(tmp_path / "absent", tmp_path / "run")
    assert (tmp_path / "run" / "file").read_text() == "old"


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
