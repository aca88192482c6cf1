"""Build the engine for this host's hardware into the data directory, where the agent prefers it.

Usage: `just engine cuda` (or rocm, vulkan, metal, cpu); MESHD_ENGINE_FLAGS adds CMake flags. The version and
the base flags are those of pyproject.toml, because llama.cpp's RPC works between equal builds only. It is kept
out of the project's environment: uv would put the default build back at the next `uv run`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from meshd.config import default_data_dir

BACKENDS = {
    "cpu": "",
    "cuda": "-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native",
    "rocm": "-DGGML_HIP=ON",
    "vulkan": "-DGGML_VULKAN=ON",
    "metal": "-DGGML_METAL=ON",
}


def main() -> None:
    """Build, then put the new engine in place of the old one."""
    backend = sys.argv[1] if len(sys.argv) == 2 else ""
    if backend not in BACKENDS:
        raise SystemExit(f"usage: just engine {'|'.join(BACKENDS)}")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    (requirement,) = project["project"]["optional-dependencies"]["llm"]
    base = project["tool"]["uv"]["extra-build-variables"]["llama-cpp-python"]["CMAKE_ARGS"]
    flags = f"{base} {BACKENDS[backend]} {os.environ.get('MESHD_ENGINE_FLAGS', '')}".strip()
    engine = default_data_dir(os.environ, Path.home()) / "engine"
    engine.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=engine.parent) as folder:
        build(requirement, flags, Path(folder) / "engine")
        shutil.rmtree(engine, ignore_errors=True)
        (Path(folder) / "engine").rename(engine)
    print(f"{requirement} with {flags}\nis now in {engine}")


def build(requirement: str, flags: str, target: Path) -> None:
    """Compile and install into `target`. Outside the project and its cache, which know other flags."""
    command = ["uv", "pip", "install", "--no-cache", "--no-deps", "--target", str(target), "--python", sys.executable]
    command += ["--no-binary", "llama-cpp-python", requirement]
    done = subprocess.run(command, env={**os.environ, "CMAKE_ARGS": flags}, cwd=target.parent, check=False)
    if done.returncode:
        raise SystemExit("the build failed; the engine that was there is unchanged")


if __name__ == "__main__":
    main()
