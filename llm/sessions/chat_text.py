"""Writes a chat as the text that a model was trained on, by the template in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm.errors import BadRequest


class ChatText:
    """One model's template. It came with the model's file, so it runs in Jinja's sandbox."""

    def __init__(self, template: str, first: str, last: str) -> None:
        self._words = {"bos_token": first, "eos_token": last}
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(template) if template else None

    def write(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text up to where the model is to go on. Raises BadRequest."""
        if self._template is None:
            raise BadRequest("this model's file has no chat template: use /v1/sessions/ID/append and /generate")
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._words)
        except jinja2.TemplateError as error:
            raise BadRequest(f"the model's chat template does not take these messages: {error}") from error


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
