"""`meshd install-service`: let systemd run this host's agent, with the flags that stand before the word."""

from __future__ import annotations

import grp
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import meshd
from meshd.cli.output import JsonFlag, fail, print_json, say
from meshd.cli.settings import read_settings
from meshd.config import BadConfig
from meshd.service_unit import NAME, ServiceHost, Wishes, read_wishes, settings_text, unit_text
from transport.errors import BadToken
from transport.invite import parse_token

SYSTEMCTL_TIMEOUT_S = 60.0


def install_service(
    context: typer.Context,
    user: Annotated[bool, typer.Option("--user", help="for this user, without root; else for the host")] = False,
    only_print: Annotated[bool, typer.Option("--print", help="print the unit and write nothing")] = False,
    start: Annotated[bool, typer.Option(help="enable it and start it")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Install a systemd unit that runs `meshd` with the flags given before this word."""
    flags = context.obj or {}
    wishes = _wishes(flags, is_user=user)
    unit, settings = _places(is_user=user)
    text = unit_text(wishes, _host(settings), is_user=user)
    if only_print:
        _print(text, wishes, settings, as_json=as_json)
        return
    try:
        _write(unit, text, 0o644)
        _write_settings(settings, wishes)
    except PermissionError as error:
        fail(f"{error}; the host's service is installed as root (`sudo {sys.argv[0]} … install-service`), else --user")
    is_running = start and _start(unit, is_user=user)
    if as_json:
        print_json({"unit": str(unit), "settings": str(settings), "is_running": is_running})
    else:
        _tell(unit, settings, is_running=is_running, is_user=user)


def _wishes(flags: dict[str, Any], *, is_user: bool) -> Wishes:
    try:
        for token in read_settings(flags, {}).config.join:
            parse_token(token)
    except (BadConfig, BadToken) as error:
        say(f"meshd: {error}")
        raise typer.Exit(2) from None
    if flags.get("data_dir") and not is_user:
        fail("the host's service keeps its data in /var/lib/meshd: leave out --data-dir, or install it with --user")
    return read_wishes(flags, Path.cwd(), is_user=is_user)


def _places(*, is_user: bool) -> tuple[Path, Path]:
    """Where the unit and its settings go."""
    if not is_user:
        return Path("/etc/systemd/system") / NAME, Path("/etc/meshd/meshd.env")
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "systemd" / "user" / NAME, base / "meshd" / "meshd.env"


def _host(settings: Path) -> ServiceHost:
    groups = {entry.gr_name for entry in grp.getgrall()}
    tool = shutil.which("nvidia-modprobe")
    compilers = [name for name in ("numba", "cupy") if importlib.util.find_spec(name) is not None]
    return ServiceHost(
        python=Path(sys.executable),
        settings=settings,
        installed=_installed(),
        groups=tuple(name for name in ("render", "video") if name in groups),
        makes_code=bool(compilers) or Path("/dev/nvidiactl").exists(),
        nvidia_modprobe=Path(tool) if tool else None,
    )


def _installed() -> tuple[Path, ...]:
    """The environment, the Python it was made from, and the code itself, which may lie in a clone."""
    places = [Path(sys.prefix), Path(sys.base_prefix), Path(meshd.__file__).parents[1]]
    return tuple({path: None for place in places for path in (place, place.resolve())})


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode)
    path.chmod(mode)  # before the secret is in it
    path.write_text(text, encoding="utf-8")


def _write_settings(settings: Path, wishes: Wishes) -> None:
    """Keep what a person wrote there; only a new token is worth writing it anew."""
    if wishes.tokens or not settings.exists():
        kept = settings.read_text("utf-8").splitlines() if settings.exists() else []
        lines = [line for line in kept if line and not line.startswith(("MESHD_JOIN=", "#"))]
        _write(settings, settings_text(wishes.tokens) + "".join(f"{line}\n" for line in lines), 0o600)


def _start(unit: Path, *, is_user: bool) -> bool:
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        say(f"systemd does not run here, so nothing was started; {unit} is in place")
        return False
    manager = [systemctl, *(["--user"] if is_user else [])]
    for words in (["daemon-reload"], ["enable", NAME], ["restart", NAME]):
        done = subprocess.run(
            [*manager, *words], capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False
        )
        if done.returncode:
            fail(f"{' '.join([*manager, *words])}: {done.stderr.strip()}")
    return True


def _print(text: str, wishes: Wishes, settings: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"unit": text, "settings": str(settings)})
    else:
        sys.stdout.write(text)
    if wishes.tokens:
        say(f"the token is not in it: a line MESHD_JOIN=… belongs into {settings}, mode 0600")


def _tell(unit: Path, settings: Path, *, is_running: bool, is_user: bool) -> None:
    manager = "systemctl --user" if is_user else "systemctl"
    print(f"unit      {unit}")
    print(f"settings  {settings}")
    print(f"{'running' if is_running else 'start it'}   {manager} {'status' if is_running else 'enable --now'} meshd")
    print(f"its log   journalctl {'--user ' if is_user else ''}-u meshd -f")
    if is_user:
        print("without a login too:  loginctl enable-linger")
    else:
        print("ask it as root:  meshd --data-dir /var/lib/meshd status")
