"""Walks over autograd's graph, from an output back to the image."""

from collections.abc import Iterator

from torch.autograd.graph import Node


def ancestors(output: Node | None, without: Node | None = None) -> Iterator[Node]:
    """The nodes on paths back from ``output``, which is the first; those only reached through ``without`` are left out.

    ``None`` is a value without gradient, which has no nodes.
    """
    seen: set[Node | None] = {None, without}
    stack = [output]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            stack += [before for before, _ in node.next_functions]


def reaches(output: Node | None, goal: Node, *, without: Node | None = None) -> bool:
    """Whether a path leads from ``output`` back to ``goal``, and does not pass ``without``."""
    return any(node is goal for node in ancestors(output, without))


def parts(output: Node | None, goal: Node, cut: Node | None) -> bool:
    """Whether ``cut`` parts ``output`` from ``goal``: every path between them passes it, and there is one."""
    return cut is not None and reaches(output, cut) and not reaches(output, goal, without=cut) and reaches(cut, goal)
