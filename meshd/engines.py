"""Makes the engines that `--model` asks for, and says which files they serve."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from llm.digest import DigestCache, fingerprint
from llm.engines.echo import EchoEngine, EchoOptions
from llm.engines.interface import Launcher
from llm.engines.llama_server import LlamaServerEngine, LlamaServerOptions
from llm.gguf import ModelFile, read_header
from llm.host import Host, ServedModel
from llm.purpose import find_projector, purpose_arguments
from meshd.config import Config
from meshd.datadir import DataDir
from meshd.model_specs import EchoSpec, FileSpec, ModelSpec

logger = logging.getLogger("meshd.engines")

DEFAULT_CONTEXT_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What engines are made with."""

    config: Config
    directory: DataDir
    launcher: Launcher

    def make(self, spec: ModelSpec) -> ServedModel:
        """The model and its engine, not started. Reads the file's head. Raises BadModelFile."""
        match spec:
            case EchoSpec():
                return _echo(spec, self.config.parallel)
            case FileSpec():
                return self._llama_server(spec)

    def _llama_server(self, spec: FileSpec) -> ServedModel:
        file = read_header(spec.path)
        options = LlamaServerOptions(
            model=spec.path,
            name=spec.name,
            log=self.directory.logs / f"{spec.name}.log",
            context_tokens=self.config.ctx or min(file.context_length, DEFAULT_CONTEXT_TOKENS),
            slots=self.config.parallel,
            threads=self.config.threads or None,
            kv_type=self.config.kv_type,
            binary=chosen_binary(self.config, self.directory),
            more_arguments=purpose_arguments(file, find_projector(spec.path)),
        )
        engine = LlamaServerEngine(options, self.launcher)
        return ServedModel(spec.name, engine, fingerprint(file.paths, file.header_bytes))


def chosen_binary(config: Config, directory: DataDir) -> Path | None:
    """The llama-server that was asked for, or built for this host; None leaves the choice to the engine."""
    if config.engine:
        return Path(config.engine).expanduser()
    built = directory.root / "engine" / "bin" / "llama-server"
    return built if built.exists() else None


def _echo(spec: EchoSpec, slots: int) -> ServedModel:
    options = EchoOptions(tokens_per_s=spec.tokens_per_s, slots=max(slots, EchoOptions().slots))
    what_it_is = hashlib.sha256(f"echo {spec.name}".encode()).hexdigest()
    return ServedModel(spec.name, EchoEngine(spec.name, options), what_it_is)


async def identify_models(specs: tuple[ModelSpec, ...], host: Host, cache: DigestCache) -> None:
    """Compute the SHA-256 of every file in the background, one after the other."""
    for spec in specs:
        if isinstance(spec, FileSpec):
            file: ModelFile = await asyncio.to_thread(read_header, spec.path)
            digest = await asyncio.to_thread(cache.digest, file.paths)
            host.identify(spec.name, digest)
            logger.info("model %s is sha256 %s", spec.name, digest[:16])
