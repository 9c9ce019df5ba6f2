"""The running calls of modules while a model is traced."""

from __future__ import annotations

from collections import Counter

from attnviz._compat import function_mode_depth
from attnviz.core.records import ChildReturn


class CallFrame:
    """One running call of a module: its counts of operations, and the modules that have returned inside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.starts_after: ChildReturn | None = None
        self._returned: set[str] = set()
        self._modes = function_mode_depth()

    def returned(self, module: str, *, is_child: bool) -> None:
        """Note that a module has returned inside this call, called directly or by a descendant.

        A capture can identify the return of a child if it is the module's first return in this call. It can enter a
        function mode there if no mode of the model is active that would be left later.
        """
        is_first = module not in self._returned
        self._returned.add(module)
        if is_child:
            is_usable = is_first and self._modes is not None and function_mode_depth() == self._modes
            self.starts_after = ChildReturn(module, dict(self.counts)) if is_usable else None
