"""Pack meshd, everything it needs and a built engine into one archive that installs without a network.

Usage: `just bundle` (or `python -m tools.bundle --extras llm --out dist`). It holds what this environment has, so the
host that unpacks it must be of the same kind: system, CPU, Python; `install.sh` checks that.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import distribution
from pathlib import Path

import meshd
from meshd.config import default_data_dir
from tools.wheels import inside, needed, wheel_again

ROOT = Path(__file__).parents[1]
# What llama.cpp may have been compiled for (ggml's CMake options, in the kernel's spelling).
CPU_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512vbmi", "avx512_vnni"),
    *("avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve"),
)


def main() -> None:
    """Write the archive and print its path."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--extras", default="llm,cpu-forms", help="extras of the project, with commas between")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the archive")
    arguments = parser.parse_args()
    print(bundle(arguments.extras.split(","), arguments.out, built_engine()))


def bundle(extras: Sequence[str], out: Path, engine: Path | None) -> Path:
    """Make the archive. engine: one that `just engine` built, to go with it."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"meshd-{meshd.__version__}-{kind()}-py{python_version()}"
    with tempfile.TemporaryDirectory(prefix="meshd-bundle-") as scratch:
        folder = Path(scratch) / name
        (folder / "wheels").mkdir(parents=True)
        _add_wheels(extras, folder)
        if engine is not None:
            shutil.copytree(engine, folder / "engine")
        shutil.copy(ROOT / "tools/install_bundle.sh", folder / "install.sh")
        (folder / "install.sh").chmod(0o755)
        (folder / "HOST").write_text(host_lines(extras))
        (folder / "SHA256SUMS").write_text(sums(folder))
        return _packed(folder, out / f"{name}.tar.gz")


def _add_wheels(extras: Sequence[str], folder: Path) -> None:
    """All wheels into `wheels/`, this checkout's own among them; pip, which installs them, beside it."""
    wheels = folder / "wheels"
    command = ["uv", "build", "--wheel", "--quiet", "--python", sys.executable, "--out-dir", str(wheels)]
    subprocess.run([*command, str(ROOT)], check=True, env={**os.environ, "UV_NO_PROGRESS": "1"})
    (ours,) = wheels.glob("*.whl")
    for one in needed(inside(ours), extras).values():
        wheel_again(one, wheels)
    wheel_again(distribution("pip"), folder)


def host_lines(extras: Iterable[str]) -> str:
    """What the other host must be like, as shell assignments."""
    told = {
        "KIND": kind(),
        "PYTHON_VERSION": python_version(),
        "GLIBC": platform.libc_ver()[1],
        "CPU_FLAGS": " ".join(flag for flag in CPU_FLAGS if flag in _flags_here()),
        "EXTRAS": ",".join(extras),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items())


def _flags_here() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}


def kind() -> str:
    """System and CPU, as `uname` names them."""
    return f"{platform.system()}-{platform.machine()}"


def python_version() -> str:
    """Major and minor: compiled modules of one do not load in another."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def sums(folder: Path) -> str:
    """Lines for `sha256sum --check`, of every file there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{_digest(path)}  {path.relative_to(folder)}\n" for path in files)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def built_engine() -> Path | None:
    """What `just engine` built for this host, if it did."""
    engine = default_data_dir(os.environ, Path.home()) / "engine"
    return engine if engine.is_dir() else None


def _packed(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:  # 9 saves a fifth, and takes four times as long
        file.add(folder, folder.name)
    return archive


if __name__ == "__main__":
    main()
