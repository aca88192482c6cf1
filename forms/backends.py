"""What computes a call in a worker: the best that its form and this device have, each held to the truth once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from forms.backend import Backend, HasFast, HasKernel, HasSample
from forms.catalogue import AnyForm
from forms.cuda.device import Device, all_device_bytes
from forms.errors import BadArgument, DeviceFailed, FormFailed

Way: TypeAlias = "tuple[Backend, Callable[[Any], Any]]"


class KernelFailed(DeviceFailed):
    """A kernel brought its device down when it was checked. form: the kernel's."""

    def __init__(self, form: str, why: str) -> None:
        super().__init__(f"the kernel of {form} does not work on this device: {why}")
        self.form = form


SAMPLE_ROWS = 11
"""Rows of the call that a way is checked on: no multiple of what anything does side by side."""


@dataclass(slots=True)
class Backends:
    """device: none on a CPU.  reserve: holds memory of the device, raises Busy.  tell: a line for the agent's log.

    without: forms whose kernels are not used.
    """

    device: Device | None = None
    reserve: Callable[[int], None] = lambda size_bytes: None
    tell: Callable[[str], None] = lambda line: None
    without: Collection[str] = ()
    _ways: dict[str, Sequence[Way]] = field(default_factory=dict)

    def compute(self, form: AnyForm, call: Any) -> tuple[Any, Backend]:
        """The result, and what computed it. Raises FormFailed; after DeviceFailed nothing here is to be trusted."""
        if form.name not in self._ways:
            self._ways[form.name] = [way for way in self._candidates(form) if self._is_right(form, call, way)]
        for backend, compute in self._ways[form.name]:
            return _guarded(form, compute, call), backend
        return _guarded(form, form.reference, call), Backend.REFERENCE

    def _candidates(self, form: AnyForm) -> list[Way]:
        found: list[Way] = []
        if self.device is not None and form.name not in self.without and isinstance(form, HasKernel):
            kernel, device = form.kernel, self.device

            def run(call: Any) -> Any:
                self.reserve(all_device_bytes(kernel, device, call))
                return kernel.run(device, call)

            found.append((Backend.CUDA, run))
        if isinstance(form, HasFast):
            found.append((Backend.CPU, form.fast))
        return found

    def _is_right(self, form: AnyForm, call: Any, way: Way) -> bool:
        """Whether it gives the truth for a small call: the form's sample, or the one at hand where there is none."""
        backend, compute = way
        checked = form.sample(SAMPLE_ROWS) if isinstance(form, HasSample) else call
        truth = _answer(form, form.reference, checked)  # what it raises is the call's own fault: nothing is settled
        try:
            is_right = bool(_answer(form, compute, checked) == truth)
        except DeviceFailed as error:
            raise KernelFailed(form.name, str(error)) from error
        except ImportError as error:
            self.tell(f"{form.name} goes without its {backend} way: {error}")
            return False
        except FormFailed as error:
            self.tell(f"{form.name}: its {backend} way failed: {error}")
            is_right = False
        if not is_right:
            self.tell(f"{form.name}: its {backend} way is wrong on this host and is not used: please report it")
        return is_right


def _answer(form: AnyForm, compute: Callable[[Any], Any], call: Any) -> Any:
    """As a client gets it: a frame, or text where there is none."""
    result = _guarded(form, compute, call)
    return form.write_frame(result) if form.magic else form.write_text(result)


def _guarded(form: AnyForm, compute: Callable[[Any], Any], call: Any) -> Any:
    try:
        return compute(call)
    except FormFailed:
        raise
    except MemoryError as error:
        raise BadArgument(f"{form.name}: the call does not fit this host's memory") from error
    except (ArithmeticError, ValueError, TypeError, LookupError) as error:
        raise FormFailed(f"{form.name} failed: {type(error).__name__}: {error}") from error
