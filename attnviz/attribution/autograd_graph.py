"""Walks over autograd's graph, from an output back to the image."""

from __future__ import annotations

from torch.autograd.graph import Node


def reaches(output: Node | None, goal: Node, *, without: Node | None = None) -> bool:
    """Whether a path leads from ``output`` back to ``goal``, and does not pass ``without``.

    Args:
        output: Start; ``None`` for a value without gradient, which reaches no node.
        goal: Node to reach.
        without: Node to avoid.
    """
    if output is None or output is without:
        return False
    stack, seen = [output], {output}
    while stack:
        node = stack.pop()
        if node is goal:
            return True
        for before, _ in node.next_functions:
            if before is not None and before is not without and before not in seen:
                seen.add(before)
                stack.append(before)
    return False


def parts(output: Node | None, goal: Node, cut: Node | None) -> bool:
    """Whether ``cut`` parts ``output`` from ``goal``: every path between them passes it, and there is one."""
    return cut is not None and reaches(output, cut) and not reaches(output, goal, without=cut) and reaches(cut, goal)
