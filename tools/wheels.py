"""Make wheels again of what is installed here, so that a bundle is what was tested, with nothing fetched or compiled.

An installed distribution keeps the list of its files (RECORD) and its tags (WHEEL); a wheel is those files in a zip.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PREFIX = Path(sys.prefix).resolve()
_OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json", "uv_build.json"}


class NotInstalled(Exception):
    """A distribution that is needed is not in this environment; the message names it."""


def needed(root: Distribution, extras: Iterable[str]) -> dict[str, Distribution]:
    """Everything that `root` with `extras` wants on a host like this one, by canonical name, without `root`."""
    found: dict[str, Distribution] = {}
    waiting = [one for extra in ("", *extras) for one in _wanted_by(root, extra)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            found[name] = _installed(name)
            waiting += _wanted_by(found[name], extra)
    return found


def inside(wheel: Path) -> Distribution:
    """What a wheel says of itself."""
    (told,) = distributions(path=[str(wheel)])
    return told


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except ModuleNotFoundError:
        raise NotInstalled(f"{name} is not installed here: run this through `just bundle`") from None


def _wanted_by(one: Distribution, extra: str) -> Iterator[tuple[str, str]]:
    """Requirements that `extra` (or, for "", the distribution itself) brings, each with each of its extras."""
    for line in one.requires or ():
        requirement = Requirement(line)
        if extra == "" if requirement.marker is None else requirement.marker.evaluate({"extra": extra}):
            name = canonicalize_name(requirement.name)
            yield from ((name, which) for which in ("", *requirement.extras))


def wheel_again(one: Distribution, folder: Path) -> Path:
    """Write the wheel that `one` was installed from, but for compression. Returns its path."""
    files = dict(_files(one))
    (info,) = {path.parts[0] for path in files if path.parts[0].endswith(".dist-info")}
    wheel = folder / f"{info.removesuffix('.dist-info')}-{_tags(one)}.whl"
    record = []
    # Stored, not deflated: the archive around all wheels is compressed.
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for path, source in sorted(files.items()):
            content = source.read_bytes()
            archive.writestr(_entry(path, source.stat().st_mode), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f'"{path}",sha256={digest},{len(content)}')
        record.append(f"{info}/RECORD,,")
        archive.writestr(_entry(PurePosixPath(info, "RECORD"), 0o644), "\n".join(record) + "\n")
    return wheel


def _entry(path: PurePosixPath, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(str(path))  # dated 1980, so that equal files make equal wheels
    entry.external_attr = (0o100000 | mode & 0o777) << 16
    return entry


def _files(one: Distribution) -> Iterator[tuple[PurePosixPath, Path]]:
    """Each file's path in the wheel and where it lies now; none of those that an installer adds."""
    made_anew = {entry.name for entry in one.entry_points if entry.group in ("console_scripts", "gui_scripts")}
    data = f"{one.name.replace('-', '_')}-{one.version}.data"
    for path in one.files or ():
        if path.suffix == ".pyc" or (path.name in _OF_THE_INSTALLER and path.parts[0].endswith(".dist-info")):
            continue
        source = Path(str(one.locate_file(path)))
        if path.parts[0] != "..":
            yield PurePosixPath(path), source
            continue
        inside = source.resolve().relative_to(PREFIX)
        if inside.parts[0] == "bin":
            if inside.name not in made_anew:
                yield PurePosixPath(data, "scripts", *inside.parts[1:]), source
        else:
            yield PurePosixPath(data, "data", *inside.parts), source


def _tags(one: Distribution) -> str:
    """The compressed tag set of its file name (PEP 425): py2.py3-none-any."""
    lines = (one.read_text("WHEEL") or "").splitlines()
    tags = [line.partition(":")[2].strip().split("-") for line in lines if line.startswith("Tag:")]
    return "-".join(".".join(dict.fromkeys(column)) for column in zip(*tags, strict=True))
