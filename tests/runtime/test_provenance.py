import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from mfclip.runtime.provenance import commit, hash_file, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "tracked.py").write_text("first", encoding="utf-8")
    (tmp_path / "untracked.py").write_text("first", encoding="utf-8")
    git(tmp_path, "add", "tracked.py")
    git(tmp_path, "commit", "-q", "--no-verify", "-m", "first")
    return tmp_path


def test_commit_of_a_tracked_file(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert commit(repository / "tracked.py") == head
    (repository / "tracked.py").write_text("second", encoding="utf-8")
    assert commit(repository / "tracked.py") == f"{head}-changed"


def test_no_commit_where_the_file_is_not_tracked(repository: Path) -> None:
    assert commit(repository / "untracked.py") is None


def test_asking_leaves_the_repository_alone(repository: Path) -> None:
    os.utime(repository / "tracked.py", (1, 1))  # `git status` would note that in the index
    index = (repository / ".git" / "index").read_bytes()
    assert commit(repository / "tracked.py") == git(repository, "rev-parse", "HEAD")
    assert (repository / ".git" / "index").read_bytes() == index


def test_versions_and_machine() -> None:
    found = provenance()
    assert (found.torch, found.python) == (torch.__version__, platform.python_version())
    assert found.cores == len(os.sched_getaffinity(0))
    assert len(found.accelerators) == torch.cuda.device_count()
    assert platform.node() not in (found.processor, found.system)


def test_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
