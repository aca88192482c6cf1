"""Asks the Hugging Face Hub for files, through huggingface_hub: what there is, and their bytes.

Everything here blocks, and the library takes a while to load: call it in a thread. Bytes go into an `Arrival`, so what
came before an interruption is kept, also one from elsewhere, and only the right SHA-256 makes it a file. The library's
own download cannot go on after an interruption (2.4: a partial file is deleted), its `http_get` can.
HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE count as for everything that uses the library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.models.selection import HubFile
from transport.blob_store import Arrival

CHUNK_BYTES = 1 << 20
"""Of each write; the library's own 10 MiB would be lost whole at every interruption."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubFailed(Exception):
    """The hub does not give it. is_weather: it could not be reached, so that trying again later makes sense."""

    def __init__(self, message: str, *, is_weather: bool) -> None:
        super().__init__(message)
        self.is_weather = is_weather


class Stopped(Exception):
    """Nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository has. commit: of that state, "" for what the cache has of it without the hub's word."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]


def list_files(repo: str) -> Listing:
    """The files of a repository, or those that the cache has when the hub cannot be reached. Raises HubFailed."""
    import huggingface_hub as library

    try:
        with _translated(repo):
            api = library.HfApi(endpoint=_endpoint())
            commit = api.model_info(repo, timeout=30).sha or "main"
            entries = api.list_repo_tree(repo, recursive=True, revision=commit)
            files = tuple(_hub_file(one) for one in entries if isinstance(one, library.RepoFile))
    except HubFailed as error:
        cached = _cached_files(repo) if error.is_weather else ()
        if not cached:
            raise
        return Listing(repo, "", cached)
    return Listing(repo, commit, files)


def find_cached(listing: Listing, file: HubFile) -> Path | None:
    """Where the library's cache has that file; None when it does not."""
    import huggingface_hub as library

    found = library.try_to_load_from_cache(listing.repo, file.path, revision=listing.commit or "main")
    return Path(found) if isinstance(found, str) else None


def download(
    listing: Listing, file: HubFile, arrival: Arrival, told: Callable[[int], None], is_stopped: Callable[[], bool]
) -> None:
    """Bring the rest of `file` into `arrival`, which is recalled already. told: how many bytes are here.

    Raises HubFailed, Stopped, OSError.
    """
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    with _translated(listing.repo):
        url = file_download.hf_hub_url(listing.repo, file.path, revision=listing.commit, endpoint=_endpoint())
        file_download.http_get(
            url,
            _Taker(arrival, told, is_stopped),  # type: ignore[arg-type]  # it uses no more of a file than this has
            resume_size=arrival.offset,
            headers=build_hf_headers(),
            expected_size=file.size,
        )


class _Taker:
    """As much of a file as `http_get` needs: it appends, and begins anew where the server cannot go on."""

    def __init__(self, arrival: Arrival, told: Callable[[int], None], is_stopped: Callable[[], bool]) -> None:
        self._arrival = arrival
        self._told = told
        self._is_stopped = is_stopped

    def write(self, data: bytes) -> int:
        if self._is_stopped():
            raise Stopped
        self._arrival.append(data)
        self._told(self._arrival.offset)
        return len(data)

    def tell(self) -> int:
        return self._arrival.offset

    def seek(self, offset: int) -> int:
        if offset:
            raise OSError(f"expected to begin anew, was told to go to byte {offset}")
        self._arrival.restart()
        return 0

    def truncate(self) -> int:
        return self._arrival.offset


def _endpoint() -> str | None:
    """Which hub; None for the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def _hub_file(entry: Any) -> HubFile:
    sha256 = entry.lfs.sha256 if entry.lfs else ""
    if not isinstance(entry.size, int) or entry.size < 0 or not (_SHA256.fullmatch(sha256) or not sha256):
        raise ValueError(f"expected a size and a SHA-256 of {entry.path!r}, got {entry.size!r} and {sha256!r}")
    return HubFile(str(entry.path), entry.size, sha256)


def _cached_files(repo: str) -> tuple[HubFile, ...]:
    """GGUF files of the repository in the library's cache. A file's content is named there by its SHA-256."""
    import huggingface_hub as library

    try:
        folder = Path(library.snapshot_download(repo, local_files_only=True))
    except (OSError, ValueError):  # what the library raises for "not there" derives from these
        return ()
    return tuple(_cached_file(folder, path) for path in sorted(folder.rglob("*.gguf")) if path.is_file())


def _cached_file(folder: Path, path: Path) -> HubFile:
    content = path.resolve()
    sha256 = content.name if _SHA256.fullmatch(content.name) else ""
    return HubFile(path.relative_to(folder).as_posix(), content.stat().st_size, sha256)


@contextmanager
def _translated(repo: str) -> Iterator[None]:
    """The library's errors as ours."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        words = f"{repo} is gated: ask for access on its page, and set HF_TOKEN"
        raise HubFailed(words, is_weather=False) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        words = f"the hub shows no repository {repo}: is it spelled right, or private (set HF_TOKEN)?"
        raise HubFailed(words, is_weather=False) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise HubFailed(
            f"the hub answers {status} for {repo}: {error}", is_weather=status in (0, 408, 429) or status >= 500
        ) from error
    except (errors.OfflineModeIsEnabled, httpx2.HTTPError, ConnectionError) as error:
        raise HubFailed(f"the hub cannot be reached for {repo}: {error}", is_weather=True) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        words = f"the hub's answer for {repo} cannot be used: {error or type(error).__name__}"
        raise HubFailed(words, is_weather=False) from error
