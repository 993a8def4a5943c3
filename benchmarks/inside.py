"""How much of a step passes inside its networks, seen from within: their forwards, and their part of backward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from diga.types import Prediction


class Inside:
    """Counts seconds of processor while networks of some kinds compute, none of which is within another.

    Backward is theirs from where a slope reaches logits until it has left the first convolution below them: the losses
    above come before, whatever follows after.
    """

    def __init__(self, *kinds: type[nn.Module]) -> None:
        self.kinds, self.seconds, self._since = kinds, 0.0, 0.0

    @contextmanager
    def counted(self, trained: nn.Module) -> Iterator[None]:
        """Count while the block runs; `trained`: the network whose weights get a slope."""
        stem = next(m for m in trained.modules() if isinstance(m, nn.Conv2d))
        hooks = [
            stem.register_forward_hook(self._below),
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, inputs: object) -> None:
        if isinstance(module, self.kinds):
            self._begin()

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(module, self.kinds):
            self._passed()
            if isinstance(output, Prediction) and output.logits.requires_grad:
                output.logits.register_hook(self._begin)  # type: ignore[no-untyped-call]

    def _below(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        if output.grad_fn is not None:
            output.grad_fn.register_hook(self._passed)  # called when the convolution's own backward is over

    def _begin(self, *_: object) -> None:
        self._since = time.process_time()

    def _passed(self, *_: object) -> None:
        here = time.process_time()
        self.seconds, self._since = self.seconds + here - self._since, here
