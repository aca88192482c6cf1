"""Every kernel that ships is compiled for every architecture that we name, on any host: NVRTC needs no GPU.

For two of them down to machine code; for the others to PTX, which takes half as long (docs/decisions/0020-kernels.md).
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path

import pytest

import bench
import forms
from forms.cuda.nvrtc import NoNvrtc, NotCompiled, Nvrtc
from forms.cuda.source import kernel_names, read_source
from forms.live.bignum_call import BignumCall, Operation
from forms.live.bignum_kernel import BignumKernel
from forms.live.numbers import Numbers

TO_MACHINE_CODE = (61, 90)
TO_PTX = (75, 86, 89, 100, 120)
SOURCES = sorted([*Path(forms.__file__).parent.rglob("*.cu"), *Path(bench.__file__).parent.glob("*.cu")])
AS_CUPY_DOES = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy 14 adds to our options when it compiles for the card at hand (its `cuda/compiler.py`)."""
AGE = re.compile(r".*rchitectures prior to .* are deprecated.*")
"""What NVRTC says of sm_61 each time; it is no word about a kernel."""


@cache
def _compiler() -> Nvrtc:
    try:
        return Nvrtc()
    except NoNvrtc as error:
        pytest.skip(str(error))


def test_there_are_kernels() -> None:
    names = {path.name for path in SOURCES}
    assert names >= {"shake.cu", "blake3_tree.cu", "radix_sort.cu", "secp256k1.cu", "simulate.cu", "gpu_rates.cu"}


def _compiler_for(architecture: int) -> Nvrtc:
    compiler = _compiler()
    if architecture not in compiler.architectures:
        pytest.skip(f"NVRTC {compiler.version} does not know sm_{architecture}")
    return compiler


def _pass_on(log: str, name: str, architecture: int) -> None:
    said = "\n".join(line for line in log.splitlines() if line and not AGE.match(line))
    if said:
        warnings.warn(f"{name} for sm_{architecture}: {said}", stacklevel=1)


@pytest.mark.parametrize("architecture", TO_MACHINE_CODE, ids="sm_{}".format)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_kernel_compiles(path: Path, architecture: int) -> None:
    text = read_source(path)

    compiled = _compiler_for(architecture).compile(text, path.name, architecture, AS_CUPY_DOES)

    # An ELF whose symbols are the kernels.
    assert compiled.cubin.startswith(b"\x7fELF")
    assert kernel_names(text)
    assert all(name.encode() in compiled.cubin for name in kernel_names(text))
    _pass_on(compiled.log, path.name, architecture)


@pytest.mark.parametrize("architecture", TO_PTX, ids="compute_{}".format)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_kernel_is_translated(path: Path, architecture: int) -> None:
    text = read_source(path)

    translated = _compiler_for(architecture).translate(text, path.name, architecture)

    assert f".target sm_{architecture}" in translated.ptx
    assert set(re.findall(r"\.entry (\w+)", translated.ptx)) == set(kernel_names(text)) != set()
    _pass_on(translated.log, path.name, architecture)


@pytest.mark.parametrize("name", ["shake.cu", "blake3_tree.cu", "bignum_8.cu", "secp256k1.cu"])
def test_states_and_numbers_stay_in_registers(name: str) -> None:
    """An index that is not known when it is compiled puts the whole of them into memory, many times slower."""
    (path,) = [path for path in SOURCES if path.name == name]

    log = _compiler().compile(read_source(path), name, 86, ("--ptxas-options=-v",)).log

    assert len(re.findall("bytes stack frame", log)) >= len(kernel_names(read_source(path)))
    assert not re.search(r"[1-9]\d* bytes (stack frame|spill)", log)


@pytest.mark.parametrize(("name", "bits"), [("bignum_32.cu", 1024), ("bignum_128.cu", 4096)])
def test_stacks_are_what_the_ledger_is_told(name: str, bits: int) -> None:
    (path,) = [path for path in SOURCES if path.name == name]
    call = BignumCall(Operation.MOD_POW, bits, 3, Numbers(b"", bits // 8), Numbers(b"", bits // 8))

    log = _compiler().compile(read_source(path), name, 90, ("--ptxas-options=-v",)).log

    assert max(map(int, re.findall(r"(\d+) bytes stack frame", log))) == BignumKernel().stack_bytes(call)


def test_what_does_not_compile_says_where(tmp_path: Path) -> None:
    (tmp_path / "half.h").write_text("#pragma once\n\nstatic const int HALF = 2;\n")
    path = tmp_path / "wrong.cu"
    path.write_text(
        '#include "host.h"\n#include "half.h"\n#include "half.h"\n'
        'extern "C" __global__ void wrong(u64 first, u32 *out) {\n    out[first] = HALVE;\n}\n'
    )

    with pytest.raises(NotCompiled, match=r'wrong\.cu\(5\): error: identifier "HALVE" is undefined'):
        _compiler().compile(read_source(path), path.name, 90)
