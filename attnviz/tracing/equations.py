"""The equation of an Einstein sum, written out: with letters in place of an ellipsis, and with its result."""

from __future__ import annotations

import string
from dataclasses import dataclass

from attnviz.tracing.graph import Node


@dataclass(frozen=True, slots=True)
class Equation:
    """An Einstein sum.

    Attributes:
        terms: The letters of the axes of each operand.
        result: The letters of the axes of the result.
    """

    terms: tuple[str, ...]
    result: str

    def __str__(self) -> str:
        return f"{','.join(self.terms)}->{self.result}"


def equation_of(node: Node) -> Equation | None:
    """The equation of an ``einsum``; ``None`` if a term repeats a letter, or if ellipses hide different axes."""
    text = node.args[0] if node.args else None
    if node.name != "einsum" or not isinstance(text, str):
        return None
    left, arrow, result = text.replace(" ", "").partition("->")
    terms = left.split(",")
    hidden = {len(p.shape) - len(t.replace("...", "")) for t, p in zip(terms, node.parents, strict=False) if "..." in t}
    if len(terms) != len(node.parents) or len(hidden) > 1:
        return None
    if not arrow:  # letters that occur once, in alphabetical order
        letters = sorted(letter for letter in set(left) - set(",.") if left.count(letter) == 1)
        result = ("..." if hidden else "") + "".join(letters)
    unused = (letter for letter in string.ascii_letters if letter not in text)
    extra = "".join(letter for letter, _ in zip(unused, range(next(iter(hidden), 0)), strict=False))
    expanded = [term.replace("...", extra) for term in (*terms, result)]
    if any(len(set(term)) < len(term) for term in expanded):
        return None
    return Equation(tuple(expanded[:-1]), expanded[-1])
