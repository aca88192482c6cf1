"""The systemd unit that `meshd install-service` writes. Pure: what this host has is handed in.

A system unit runs under a user that exists only while it runs, and sees no more of the host than it needs. A user's
unit leaves out whatever needs a mount namespace: many hosts let no user make one, and then it would not start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from meshd.config import Config

NAME = "meshd.service"
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ProtectHome= covers; a file below one of them has to be let in by name."""

_PATHS = ("draft", "engine", "data_dir", "config", "api_key_file", "bend_key_file", "bend_worker_key_file")
_MODELS = ("model", "lazy")
SECRET_FILES = ("api_key_file", "bend_key_file", "bend_worker_key_file")
_NOT_FILES = ("hf:", "echo:")
_NOT_DRAFTS = ("ngram", "none")


@dataclass(frozen=True, slots=True)
class ServiceHost:
    """What the unit must know of the host.

    python: the interpreter that runs meshd.  settings: file with MESHD_… lines, read before the start, mode 0600.
    installed: folders that meshd runs from.  groups: those that own GPU devices, as far as they exist here.
    makes_code: whether forms compile for the CPU or the GPU (numba, CuPy), and so write memory that they then run.
    nvidia_modprobe: the program that makes NVIDIA's device files, where it is installed.
    """

    python: Path
    settings: Path
    installed: tuple[Path, ...]
    groups: tuple[str, ...]
    makes_code: bool
    nvidia_modprobe: Path | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """The flags a service keeps.

    arguments: as typed, with whole paths.  shown: files it must see.  secrets: files that only root may read, by
    credential name.  tokens: of --join; they go to the settings file, since anyone may read a unit.
    """

    arguments: tuple[str, ...]
    shown: tuple[Path, ...]
    secrets: tuple[tuple[str, Path], ...]
    tokens: tuple[str, ...]


def read_wishes(flags: Mapping[str, Any], folder: Path, *, is_user: bool) -> Wishes:
    """Sort the flags that were given (None: not given). folder: where relative paths start."""
    arguments: list[str] = []
    shown: list[Path] = []
    secrets: list[tuple[str, Path]] = []
    for name in (*(entry.name for entry in fields(Config)), "config"):
        value = flags.get(name)
        if value is None or value is False or name == "join":
            continue
        option = "--" + name.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else (value,):
            path = _path_of(name, one, folder)
            if path is not None and name in SECRET_FILES and not is_user:
                secrets.append((name.replace("_", "-"), path))
                arguments += [option, f"%d/{name.replace('_', '-')}"]
            elif path is not None:
                shown.append(path)
                arguments += [option, _escaped(str(path))]
            else:
                arguments += [option] if one is True else [option, _escaped(str(one))]
    tokens = tuple("".join(str(token).split()) for token in flags.get("join") or ())
    return Wishes(tuple(arguments), tuple(shown), tuple(secrets), tokens)


def _path_of(name: str, value: object, folder: Path) -> Path | None:
    is_path = name in _PATHS or (name in _MODELS and not str(value).startswith(_NOT_FILES))
    if not is_path or (name == "draft" and value in _NOT_DRAFTS):
        return None
    return folder / Path(str(value)).expanduser()


def settings_text(tokens: Sequence[str]) -> str:
    """The settings file as it is first written."""
    head = "# Any setting of `meshd config --show` may stand here, as MESHD_ and its name. The unit's own flags win.\n"
    return head + (f"MESHD_JOIN={','.join(tokens)}\n" if tokens else "")


def unit_text(wishes: Wishes, host: ServiceHost, *, is_user: bool) -> str:
    """The whole unit file."""
    sections = (
        ("Unit", _unit()),
        ("Service", [*_running(wishes, host), *(() if is_user else _confined(wishes, host)), *_hardened(host)]),
        ("Install", [f"WantedBy={'default.target' if is_user else 'multi-user.target'}"]),
    )
    return "\n".join(f"[{title}]\n" + "\n".join(lines) + "\n" for title, lines in sections)


def _unit() -> list[str]:
    return [
        "Description=meshd, this host's node of a mesh",
        "Wants=network-online.target",
        "After=network-online.target",
        "# Its peers may be away for a day: it never gives up.",
        "StartLimitIntervalSec=0",
    ]


def _running(wishes: Wishes, host: ServiceHost) -> list[str]:
    command = [_escaped(str(host.python)), "-P", "-m", "meshd", *wishes.arguments]
    return [
        "Type=exec",
        f"ExecStart={' '.join(_quoted(word) for word in command)}",
        f"EnvironmentFile=-{_escaped(str(host.settings))}",
        "# Exit 0 is an end that was asked for (`meshd leave` too), 2 a setting that another start will not mend.",
        "Restart=on-failure",
        "RestartSec=10",
        "RestartPreventExitStatus=2",
        "TimeoutStopSec=30",
        "KillMode=mixed",
        "# An engine that the kernel kills for memory is started again by meshd itself.",
        "OOMPolicy=continue",
        "LimitNOFILE=65536",
        "UMask=0077",
    ]


def _confined(wishes: Wishes, host: ServiceHost) -> list[str]:
    """A user, folders and devices of its own: what only the system's manager can give."""
    lines = [
        "DynamicUser=yes",
        *([f"SupplementaryGroups={' '.join(host.groups)}"] if host.groups else []),
        "StateDirectory=meshd",
        "StateDirectoryMode=0700",
        "WorkingDirectory=%S/meshd",
        "Environment=HOME=%S/meshd MESHD_DATA_DIR=%S/meshd",
        *(f"LoadCredential={name}:{_escaped(str(path))}" for name, path in wishes.secrets),
        "ProtectHome=tmpfs",
        *(f"BindReadOnlyPaths={_quoted(_escaped(str(path)))}" for path in _let_in((*host.installed, *wishes.shown))),
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "ProtectProc=invisible",
        "DevicePolicy=closed",
        "DeviceAllow=char-nvidia* rw",
        "DeviceAllow=char-drm rw",
        "DeviceAllow=/dev/kfd rw",
    ]
    if host.nvidia_modprobe is not None:
        lines.append("# Makes /dev/nvidia-uvm, as root, where nothing has opened the GPU since the host started.")
        lines.append(f"ExecStartPre=-+{host.nvidia_modprobe} -c 0 -u")
    return [*lines, "CapabilityBoundingSet=", "AmbientCapabilities=", "RemoveIPC=yes", *_kernel()]


def _kernel() -> list[str]:
    what = ("Clock", "ControlGroups", "Hostname", "KernelLogs", "KernelModules", "KernelTunables")
    return [f"Protect{name}=yes" for name in what]


def _hardened(host: ServiceHost) -> list[str]:
    """What a seccomp filter can do, and so a user's manager too."""
    return [
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        *_memory(host),
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallErrorNumber=EPERM",
    ]


def _memory(host: ServiceHost) -> list[str]:
    if host.makes_code:
        return ["# MemoryDenyWriteExecute= is left out: numba and CUDA compile, which it forbids."]
    return ["MemoryDenyWriteExecute=yes"]


def _let_in(paths: Sequence[Path]) -> list[Path]:
    """Those that ProtectHome= would hide, without what lies below another of them."""
    hidden = sorted({path for path in paths if any(path.is_relative_to(cover) for cover in HIDDEN)})
    return [path for path in hidden if not any(path != above and path.is_relative_to(above) for above in hidden)]


def _escaped(word: str) -> str:
    """`%` begins a specifier of systemd's."""
    return word.replace("%", "%%")


def _quoted(word: str) -> str:
    """One word of a command line, as systemd.service(5) splits it."""
    word = word.replace("$", "$$")
    if word and not any(sign in word for sign in " \t\"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
