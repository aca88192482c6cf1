"""`just bundle`'s archive, installed where there is no network at all, by a user who has nothing but a Python."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.netns import namespaces
from tools import bundle

# Without the forms' compilers: they only make the archive larger.
EXTRAS = ("llm",)
PYTHON = Path(sys.base_prefix) / "bin" / f"python{bundle.python_version()}"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's one folder, as another host would see it."""
    folder = tmp_path_factory.mktemp("bundle")
    archive = bundle.bundle(EXTRAS, folder, engine=None)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="tar")
    archive.unlink()
    return folder / archive.name.removesuffix(".tar.gz")


def typed(home: Path, *words: str | Path, at: namespaces.Namespace | None = None) -> subprocess.CompletedProcess[str]:
    """Run `words` with an environment that knows nothing of this one."""
    environment = {"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHON": str(PYTHON)}
    environment["PIP_NO_COMPILE"] = "1"  # half of the installation's time, for what here runs once
    words = at.command(*map(str, words)) if at else words
    return subprocess.run(words, env=environment, cwd=home, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.timeout(600)  # packs, installs and starts everything that meshd is
@pytest.mark.usefixtures("can_make_namespaces")
def test_it_installs_without_a_network_and_answers_a_chat(unpacked: Path, tmp_path: Path) -> None:
    with namespaces.host("") as nowhere:
        nowhere.ip("link", "set", "lo", "up")
        installed = typed(tmp_path, unpacked / "install.sh", tmp_path / "app", at=nowhere)
        assert installed.returncode == 0, installed.stdout + installed.stderr

        meshd = tmp_path / "app/bin/meshd"
        version = typed(tmp_path, meshd, "version", at=nowhere)
        demo = typed(tmp_path, meshd, "demo", "--once", "--json", at=nowhere)

    assert version.stdout.strip() in unpacked.name
    assert demo.returncode == 0, demo.stderr
    assert json.loads(demo.stdout)["path"][-1] == "llama-server (solo)"


def test_a_damaged_archive_is_refused(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in ("install.sh", "HOST", "SHA256SUMS"):
        (tmp_path / name).write_bytes((unpacked / name).read_bytes())

    done = typed(tmp_path, "sh", tmp_path / "install.sh", tmp_path / "app")
    assert done.returncode == 1 and "damaged" in done.stderr


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("KIND=Linux-riscv64", "is for Linux-riscv64"),
        ("PYTHON_VERSION=3.99", "is for 3.99"),
        ("GLIBC=9.99", "older than the 9.99"),
        ("CPU_FLAGS='fpu no_such_flag'", "no_such_flag"),
    ],
)
def test_a_host_of_another_kind_is_told_what_differs(unpacked: Path, tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "install.sh").write_bytes((unpacked / "install.sh").read_bytes())
    (tmp_path / "HOST").write_text((unpacked / "HOST").read_text() + line + "\n")

    done = typed(tmp_path, "sh", tmp_path / "install.sh", tmp_path / "app")
    assert done.returncode == 1 and complaint in done.stderr
    assert not (tmp_path / "app").exists()
