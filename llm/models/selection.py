"""Which files of a repository on the Hugging Face Hub `hf:owner/repo[:quant]`, or a name for one, means. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from llm.gguf import SPLIT_NAME
from llm.models.catalogue import SPECS

GB = 1e9
_SPEC = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?::(?P<quant>[\w.-]{1,96}))?", re.ASCII
)
# What llama.cpp calls its file types, at the end of a file's name: Q4_K_M, IQ2_XXS, BF16, MXFP4_MOE, UD-Q4_K_XL, …
_QUANT = re.compile(
    r"(?:^|[-._])(?P<quant>(?:UD-)?(?:I?Q\d\w*|TQ\d_\d|BF16|FP?16|FP?32|MXFP4\w*))\Z", re.ASCII | re.IGNORECASE
)


FILE_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9 ._+()-]{0,190}\.gguf\Z")
"""What others may call a file that is to lie on this disk."""


PROJECTOR = "mmproj"
"""What the name of a file begins with that lets a model see or hear."""
_PROJECTOR_TYPES = ("f16", "bf16", "q8_0", "f32")
"""Best first: it is small beside its model, and F16 is what it computes in."""


class NotChosen(Exception):
    """The spec means no model of the repository, or more than one; the message lists what there is."""


@dataclass(frozen=True, slots=True)
class HubSpec:
    """`hf:owner/repo[:quant]`. quant: "" where the repository has only one."""

    repo: str
    quant: str

    @property
    def name(self) -> str:
        """The spec as it is written: what the model is called until its files are known."""
        return f"hf:{self.repo}:{self.quant}" if self.quant else f"hf:{self.repo}"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository. path: within it.  sha256: 64 hex digits, "" where the hub does not say."""

    path: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name


def parse_hub_spec(text: str) -> HubSpec | None:
    """The spec in `text`, or that a name of the catalogue stands for; None when it is neither."""
    found = _SPEC.fullmatch(SPECS.get(text.lower(), text))
    return HubSpec(found["repo"], found["quant"] or "") if found else None


def choose(spec: HubSpec, files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """Every part of the one model that `spec` means, in order. Raises NotChosen."""
    models = _models(files)
    if not models:
        raise NotChosen(f"{spec.repo} has no GGUF file: name a repository that has some")
    meant = [stem for stem in models if not spec.quant or spec.quant.lower() in _labels(stem)]
    if len(meant) != 1:
        what = f"{len(meant)} models" if meant else f"no {spec.quant}"
        example = f"hf:{spec.repo}:{_label(min(models))}"
        raise NotChosen(f"{spec.repo} has {what}: say which, as in {example}; there are: {_listed(models)}")
    parts = sorted(models[meant[0]], key=lambda file: file.path)
    _check_parts(spec, parts)
    return tuple(parts)


def choose_projector(model: Sequence[HubFile], files: Iterable[HubFile]) -> HubFile | None:
    """The file that lets `model` see or hear, of those beside it or else at the repository's top; None without any."""
    found = [one for one in files if FILE_NAME.match(one.file_name) and is_projector(one.file_name)]
    beside = [one for one in found if PurePosixPath(one.path).parent == PurePosixPath(model[0].path).parent]
    at_top = [one for one in found if "/" not in one.path]
    return min(beside or at_top, key=lambda one: (_projector_rank(one.file_name), one.path), default=None)


def is_projector(file_name: str) -> bool:
    """Whether that file lets a model see or hear, by its name as repositories give it."""
    return file_name.lower().startswith(PROJECTOR)


def _projector_rank(file_name: str) -> int:
    found = _QUANT.search(file_name.removesuffix(".gguf"))
    kind = found["quant"].lower() if found else ""
    return _PROJECTOR_TYPES.index(kind) if kind in _PROJECTOR_TYPES else len(_PROJECTOR_TYPES)


def identity_of(sha256s: Sequence[str]) -> str:
    """What offers call a model whose files have these SHA-256: of one just that, else the SHA-256 over all in order."""
    return sha256s[0] if len(sha256s) == 1 else hashlib.sha256("".join(sha256s).encode()).hexdigest()


def _models(files: Iterable[HubFile]) -> dict[str, list[HubFile]]:
    """The repository's models by stem: path without part number and ending. Projectors and the like are none."""
    models: defaultdict[str, list[HubFile]] = defaultdict(list)
    for file in files:
        name = file.file_name
        if FILE_NAME.match(name) and not is_projector(name) and not name.lower().startswith("imatrix"):
            split = SPLIT_NAME.match(file.path)
            models[split["stem"] if split else file.path.removesuffix(".gguf")].append(file)
    return dict(models)


def _labels(stem: str) -> set[str]:
    """What people may call the model of that stem, in lower case."""
    return {_label(stem).lower(), PurePosixPath(stem).name.lower()}


def _label(stem: str) -> str:
    name = PurePosixPath(stem).name
    found = _QUANT.search(name)
    return found["quant"] if found else name


def _listed(models: dict[str, list[HubFile]]) -> str:
    sizes = {_label(stem): sum(file.size for file in files) for stem, files in sorted(models.items())}
    return ", ".join(f"{label} ({size / GB:.2f} GB)" for label, size in sizes.items())


def _check_parts(spec: HubSpec, parts: list[HubFile]) -> None:
    """All parts of a split model are there, and nothing else is."""
    split = SPLIT_NAME.match(parts[0].path)
    count = int(split["parts"]) if split else 1
    names = {part.path for part in parts}
    for number in range(1, count + 1):
        wanted = f"{split['stem']}-{number:05d}-of-{count:05d}.gguf" if split else parts[0].path
        if wanted not in names:
            raise NotChosen(f"{spec.repo} lacks {wanted}, part {number} of {count}: nothing was downloaded")
    if len(parts) != count:
        raise NotChosen(f"{spec.repo} has files that are not of one model: {', '.join(sorted(names))}")
