"""The registry of edits: names for :func:`attnviz.intervene`, and the replacements that studies measure."""

from dataclasses import dataclass

from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Kind
from attnviz.core.registry import Registry
from attnviz.edits.context import Edit
from attnviz.errors import CaptureError


@dataclass(frozen=True, slots=True)
class NamedEdit:
    """An edit with a name.

    Attributes:
        name: Name in :data:`EDITS`.
        edit: A function of ``g``, or an object with a method ``at``.
        meaning: Title, what the edit does and what its effect does not show.
        kinds: Kinds of attention that it applies to.
        in_studies: Whether ``attnviz sparsity --causal`` measures its effect.
    """

    name: str
    edit: Edit
    meaning: Meaning
    kinds: frozenset[Kind] = frozenset(Kind)
    in_studies: bool = False


EDITS: Registry[NamedEdit] = Registry("edit", home="attnviz.edits", group="attnviz.edits")


def register_edit(
    name: str,
    edit: Edit,
    *,
    title: str,
    means: str,
    not_means: str,
    kinds: frozenset[Kind] = frozenset(Kind),
    in_studies: bool = False,
) -> None:
    """Register an edit; see :class:`NamedEdit` for the arguments.

    Raises:
        ValueError: another edit has this name.
    """
    meaning = Meaning(title, means, not_means)
    EDITS.register(name)(NamedEdit(name, edit, meaning, kinds, in_studies))
    define("edit", name, meaning)


def as_edit(edit: Edit | str) -> Edit:
    """Return an edit that is given by name, or itself.

    Raises:
        UnknownNameError: no edit has this name.
        CaptureError: neither a name, nor a function of ``g``, nor an object with a method ``at``.
    """
    if isinstance(edit, str):
        return EDITS[edit].edit
    if not callable(edit) and not hasattr(edit, "at"):
        raise CaptureError(
            f"an edit is a name, a function of g or an object with a method at(moment), got {type(edit).__name__}"
        )
    return edit
