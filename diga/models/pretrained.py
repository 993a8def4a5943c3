"""Weights of a backbone from a file: all of them, of the right shapes, or a line that says which is not.

A network says which of its tensors a file may give by a method `backbone_state()`: their names in a
file, and the tensors themselves, which share the network's memory.  Files are read as tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diga.errors import ConfigError, DataError

NESTS = ("state_dict", "model")  # keys under which a file may keep its tensors
PREFIXES = ("module.", "model.", "backbone.", "Scale.")  # the last: AdaptSegNet's Caffe weights
UNREAD = "num_batches_tracked"  # a counter that no batch normalisation here reads, and old files lack


def load(net: nn.Module, path: Path) -> None:
    """Give the backbone of `net` the weights in the file at `path`; other tensors of the file are left alone.

    Raises DataError, naming file, tensor, what was found and expected and how many do not fit, and
    changes nothing then; ConfigError for a network that has no backbone.
    """
    state = getattr(net, "backbone_state", None)
    if state is None:
        raise ConfigError("pretrained", f"{type(net).__name__} takes no file of weights", "a network with a backbone")
    wanted: dict[str, Tensor] = {k: v for k, v in state().items() if not k.endswith(UNREAD)}
    found = tensors(path)
    faults = {k: fault for k, v in wanted.items() if (fault := misfit(found.get(k), v))}
    if faults:
        name, fault = next(iter(faults.items()))
        count = f"{len(faults)} of {len(wanted)} tensors do not fit"
        raise DataError(path, f"{name}: found {fault}; {count}", f"numbers of shape {tuple(wanted[name].shape)}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without prefixes.  Raises DataError for anything but a file of tensors."""
    state = read(path)
    for _ in range(len(NESTS)):
        inner = (state[k] for k in NESTS if isinstance(state.get(k), Mapping))
        state = next(inner, state)
    named = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not named:
        raise DataError(path, "holds no named tensors", "a state dict that torch.save has written")
    found: dict[str, Tensor] = {}
    for name in sorted(named, key=len):  # of two that would have one name, the plainer counts
        found.setdefault(bare(name), named[name])
    return found


def read(path: Path) -> Mapping[Any, Any]:
    """What torch.save has written, if it is a mapping.  Nothing in the file is executed."""
    try:
        if not path.is_file():
            raise DataError(path, "no such file", "a file of weights")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (DataError, MemoryError):
        raise
    except PermissionError:
        raise DataError(path, "may not be read", "a file of weights") from None
    except Exception:  # a damaged file raises whatever its damage leads to, and torch's own words advise to trust it
        raise DataError(path, "damaged, or more than tensors", "a state dict that torch.save has written") from None
    return state if isinstance(state, Mapping) else {}


def bare(name: str) -> str:
    """`module.backbone.conv1.weight` -> `conv1.weight`."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name


def misfit(found: Tensor | None, wanted: Tensor) -> str:
    """Why a tensor cannot be taken; empty if it can."""
    if found is None:
        return "nothing"
    if found.layout != torch.strided or found.is_meta or not found.is_floating_point():
        return f"{found.layout} of {found.dtype} on {found.device}".replace("torch.", "")
    if found.shape != wanted.shape:
        return f"shape {tuple(found.shape)}"
    return "" if found.float().isfinite().all() else "values that are not finite"
