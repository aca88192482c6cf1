"""Makes the engines that `--model` asks for, and says which files they serve."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from llm.digest import fingerprint
from llm.draft.desk import DraftDesk
from llm.engines.drafts import Draft
from llm.engines.echo import EchoEngine, EchoOptions
from llm.engines.interface import Launcher
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.resident import Residence, Resident, ResidentEngine
from llm.gguf import ModelFile, read_header
from llm.host import ServedModel
from llm.memory.host_cache import HostCache, host_cache
from llm.purpose import find_projector, purpose_arguments
from llm.residency import Policy
from llm.sessions.engine import SessionEngine, SessionOptions, WithSessions
from llm.sessions.stats import SessionStats
from meshd.config import Config
from meshd.datadir import DataDir
from meshd.drafts import Drafts
from meshd.memory import HostMemory
from meshd.model_needs import makeup_of, needs_of, settings_of
from meshd.model_specs import EchoSpec, FileSpec
from meshd.split import Splitting
from transport.identity import NodeKey

logger = logging.getLogger("meshd.models")

DEFAULT_CONTEXT_TOKENS = 8192
LOGIT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What engines are made with."""

    config: Config
    directory: DataDir
    launcher: Launcher
    splitting: Splitting
    memory: HostMemory
    residence: Residence
    desk: DraftDesk = field(default_factory=DraftDesk)
    """Where sessions ask for drafters on other hosts."""
    session_stats: dict[str, SessionStats] = field(default_factory=dict)
    """What the sessions of each model take and did, of those that had any since this agent began."""

    def make(self, spec: FileSpec | EchoSpec) -> ServedModel:
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
            draft=Drafts(self.config.draft, self.directory).choose(file),
            more_arguments=purpose_arguments(file, find_projector(spec.path)),
        )
        options = replace(options, host_cache=self._host_cache(file, options))
        which = fingerprint(file.paths, file.header_bytes)
        resident = Resident(
            spec.name,
            make=lambda: self.splitting.engine(file, which, options),
            need_bytes=self.need_bytes(file, options),
            slots=options.slots,
            policy=Policy.LAZY if spec.is_lazy else Policy.PINNED,
            ttl_s=self.config.idle_ttl,
            makeup=makeup_of(file, options, in_ram=self.memory.is_ram),
        )
        sessions = self._sessions(file, which, options)
        engine = WithSessions(self.residence.add(resident), sessions, fits=sessions.need_bytes > 0)
        return ServedModel(spec.name, engine, which, file_bytes=file.file_bytes)

    def _sessions(self, file: ModelFile, which: str, server: LlamaServerOptions) -> ResidentEngine:
        """The model's sessions, which load when the first is opened and are parked when nobody uses any."""
        folder = self.directory.root / "sessions" / which[:16]
        # llama-server's own way to draft with n-grams is not the sessions'; a draft model is theirs, too.
        draft = server.draft if isinstance(server.draft, Draft) else None
        options = SessionOptions(
            replace(server, draft=draft),
            which,
            folder,
            self._node,
            vocabulary=file.vocabulary_digest,
            # The drafter reads what it drafts for: who wants no drafts shows nobody anything.
            desk=lambda: "" if self.config.draft == "none" else self.desk.invitation,
            tell=lambda stats: self.session_stats.update({server.name: stats}),
        )
        return self.residence.add(
            Resident(
                f"{server.name} (sessions)",
                make=lambda: SessionEngine(options, self.launcher),
                need_bytes=self._session_bytes(file, options),
                slots=options.sequences,
                ttl_s=self.config.idle_ttl,
                makeup=makeup_of(file, options.server, in_ram=self.memory.is_ram),
            )
        )

    def _session_bytes(self, file: ModelFile, options: SessionOptions) -> int:
        """All of the model once more beside its llama-server, and logits for each sequence; 0 where it does not fit."""
        logits = LOGIT_BYTES * options.sequences * file.tokens.items * (1 + (options.server.draft is not None))
        need = self.need_bytes(file, options.server) + logits
        return need if logits < need <= self.memory.total_bytes else 0

    def _node(self) -> str:
        """How this node is called in sessions' names."""
        seed = self.directory.read("node.key")
        assert seed is not None, "the agent has made it before any engine runs"
        return NodeKey(seed).node.hex()[:16]

    def _host_cache(self, file: ModelFile, options: LlamaServerOptions) -> HostCache:
        ram_bytes = psutil.virtual_memory().total
        return host_cache(file, settings_of(options), in_ram=self.memory.is_ram, ram_bytes=ram_bytes)

    def need_bytes(self, file: ModelFile, options: LlamaServerOptions) -> int:
        """What the model takes when this node serves it alone; 0 where it is split, so that its parts are leased."""
        need = needs_of(file, options, in_ram=self.memory.is_ram)(())[0] + self.memory.context_bytes
        return need if need <= self.memory.total_bytes and not self.splitting.is_forced else 0


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
