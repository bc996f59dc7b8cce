"""Second modules over the same tensors: a change of one's structure does not change the other's."""

from __future__ import annotations

import copy
from typing import Any


def view(module: Any) -> Any:
    """A module with a structure of its own that shares every tensor with `module`, and the hooks it has now."""
    kept = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            kept += hooks.values()
    return copy.deepcopy(module, memo={id(shared): shared for shared in kept})
