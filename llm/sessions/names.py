"""What a session is called: the name says which node has it and for which model, so that any node finds it. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from llm.errors import BadRequest, RequestFailed

OWNER_HEADER = "x-meshd-owner"
"""In which an agent tells its child whose a request is."""
KEY_VARIABLE = "MESHD_SESSION_KEY"
"""The key of the child's door; an argument would show in every user's process list."""
DESK_VARIABLE = "MESHD_DRAFT_DESK"
"""Where the child asks its agent for drafters on other hosts (`llm.draft.desk.Invitation`)."""

PATTERN = re.compile(r"sess-([0-9a-f]{16})-([0-9a-f]{8})-([0-9a-f]{24})")
CHATS = ("/v1/chat/completions", "/chat/completions")
KIND_WITH_SESSIONS = "llama_server"
OF_SESSIONS = re.compile(r"/v1/sessions(/|\?|$)")
PATH = re.compile(r"/v1/sessions/([^/?]+)")


class SessionGone(RequestFailed):
    """The session was lost or deleted: its node has gone, or no longer knows it. It does not come back."""

    status = 410
    kind = "invalid_request_error"
    code = "session_gone"
    param = "session_id"


class NotASession(RequestFailed):
    """The word is no session's name."""

    status = 404
    kind = "invalid_request_error"
    code = "session_not_found"
    param = "session_id"


class NoSessions(RequestFailed):
    """The model has none: sessions need all of it on one node, in a file that meshd serves."""

    status = 409
    kind = "invalid_request_error"
    code = "no_sessions"
    param = "model"


@dataclass(frozen=True, slots=True)
class SessionName:
    """node: the first 16 hex digits of its NodeId.  model: `model_tag` of its name.  secret: random, as hex."""

    node: str
    model: str
    secret: str

    def __str__(self) -> str:
        return f"sess-{self.node}-{self.model}-{self.secret}"


def model_tag(model: str) -> str:
    """A model's name in a session's."""
    return hashlib.sha256(model.encode()).hexdigest()[:8]


def read_name(text: str) -> SessionName:
    """Raises NotASession."""
    found = PATTERN.fullmatch(text)
    if found is None:
        raise NotASession(f"expected a session's id as POST /v1/sessions gave it, got {text[:80]!r}")
    return SessionName(*found.groups())


def in_path(path: str) -> str | None:
    """The session that a path names."""
    found = PATH.match(path)
    return found[1] if found else None


def path_of(name: SessionName, path: str, asked_model: str | None, model: str) -> str:
    """The path of the session engine for a request that names the session, in its path or in its body.

    Raises BadRequest where the request is no chat, or names another model.
    """
    if asked_model not in (None, model):
        raise BadRequest(f"this session is of model {model!r}, the request of {asked_model!r:.80}", param="model")
    if in_path(path) is not None:
        return path
    if path.partition("?")[0] not in CHATS:
        raise BadRequest(f"`session_id` goes with a chat (POST {CHATS[0]}) only", param="session_id")
    return f"/v1/sessions/{name}/chat/completions"


def model_of(name: SessionName, models: Iterable[str]) -> str:
    """The model that the session is of. Raises SessionGone when the mesh has no such model any more."""
    for model in models:
        if model_tag(model) == name.model:
            return model
    raise SessionGone(f"session {str(name)[:26]}… is of a model that no node of this mesh serves any more")


def is_of_sessions(path: str) -> bool:
    """Whether a request for that path is the session engine's."""
    return OF_SESSIONS.match(path) is not None


def check_kind(model: str, engine_kind: str) -> None:
    """Raises NoSessions for a model that meshd serves from no file of its own."""
    if engine_kind != KIND_WITH_SESSIONS:
        raise NoSessions(
            f"model {model!r} has no sessions: its engine is {engine_kind}, and sessions are of GGUF files that meshd "
            "serves itself (meshd --model FILE); chat without `session_id`"
        )


def check_whole(model: str, *, is_split: bool, fits: bool) -> None:
    """Raises NoSessions for a model that no single node holds."""
    if is_split or not fits:
        how = "is split over several nodes" if is_split else "does not fit on this node alone"
        raise NoSessions(
            f"model {model!r} {how}, and a session needs all of it on one: chat without `session_id`, or serve a "
            f"smaller quantisation, or serve it on a node with the memory that `meshd plan {model}` says"
        )
