"""One example of every message that `forms` puts on the wire between nodes."""

from __future__ import annotations

from forms.call_message import (
    FormAccepted,
    FormAnswer,
    FormCall,
    FormFailure,
    FormMeasure,
    FormWorking,
    NodeMessage,
    Question,
    message,
)
from forms.cost import Cost, Line
from forms.errors import Kind
from forms.forms_fact import encode_fact, fact_of
from tests.golden import Example, struct_path

MESSAGES: dict[str, tuple[str, Question | NodeMessage]] = {
    "form_call": ("A call in a frame of 48 bytes", FormCall(is_text=False, size=48)),
    "form_measure": ("Find out what your forms cost", FormMeasure()),
    "form_accepted": ("The call may come", FormAccepted()),
    "form_working": ("The node lives", FormWorking()),
    "form_answer": (
        "A reply of 76 bytes follows",
        FormAnswer(76, "cuda-shake-fanout", "cpu", 2.0, 0.0009765625, False, 0.001953125, 0.25),
    ),
    "form_failure": ("The node has no time", FormFailure(Kind.BUSY.value, "more calls than are served at once")),
}

COSTS = (
    Cost("cuda-radix-sort", True, "cpu", Line(0.00025, 1.5e-06), 0.0, 4, 0.25),
    Cost("cuda-shake-fanout", False, "cuda", Line(0.0005, 7.5e-09), 1.25, 120, 0.125),
)


def examples() -> dict[str, Example]:
    """By file name."""
    found = {
        name: Example(about, struct_path(type(content)), message(content).payload)
        for name, (about, content) in MESSAGES.items()
    }
    fact = encode_fact(fact_of(COSTS, is_warm=True, queue_s=0.5))
    return found | {"fact_forms": Example("The fact `forms`", "forms.forms_fact.FormsFact", fact)}
