"""The exceptions of attnviz.

::

    AttnvizError                 one readable line; the command line exits with 1
    ├── UnknownNameError         a name that is not registered; lists the known names, suggests the nearest
    ├── ImageError               an image that is missing, damaged or unsuitable
    │   └── ClipError            a clip that is missing, damaged or unsuitable for the model
    ├── ModelError               a model that cannot be built, loaded or run
    │   └── WeightsError         weights that are missing, damaged or do not fit
    ├── TargetError              a class that the model does not have
    ├── CaptureError             attention that cannot be captured
    │   ├── NoAttentionError     a model, or a pattern, with no attention site
    │   └── ReconstructionError  a record whose ``f(g, x)`` differs from the model's output
    ├── AttributionError         a method that does not apply to this model
    ├── DeviceError              a device that is not available
    ├── DataError                training or evaluation data that is missing or too small
    └── OutputError              results that cannot be written, or would overwrite others

:class:`GuessWarning` is the only warning: a setting of a model was guessed.
"""

import difflib
from collections.abc import Iterable


class AttnvizError(Exception):
    """Base of all errors above; its message is one line."""


class GuessWarning(UserWarning):
    """A setting of a model was guessed; the message says which, and how to set it."""


class UnknownNameError(AttnvizError):
    """A name that is not among the known ones.

    Attributes:
        kind: Kind of the named object, for example ``"model"``.
        name: The requested name.
        known: The known names, sorted.
        suggestions: Up to three known names similar to ``name``, nearest first.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        folded = {k.lower(): k for k in self.known}
        close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)
        self.suggestions = tuple(folded[k] for k in close)
        super().__init__(self._text())

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.name, self.known)

    def _text(self) -> str:
        text = f"unknown {self.kind} {self.name!r}"
        if self.suggestions:
            return f"{text}: did you mean {' or '.join(self.suggestions)}?"
        number_like = any(name[:1].isdecimal() for name in self.known)  # "known are 2" would be a count
        listed = ", ".join(map(repr, self.known[:20]) if number_like else self.known[:20])
        more = ", …" if len(self.known) > 20 else ""
        return f"{text}: known are {listed}{more}" if listed else f"{text}: none is known"


class ImageError(AttnvizError):
    """An image that is missing, damaged or unsuitable."""


class ClipError(ImageError):
    """A clip that is missing, damaged or unsuitable for the model."""


class ModelError(AttnvizError):
    """A model that cannot be built, loaded or run."""


class WeightsError(ModelError):
    """Weights that are missing, damaged or do not fit the model."""


class TargetError(AttnvizError):
    """A class that the model does not have."""


class CaptureError(AttnvizError):
    """Attention that cannot be captured."""


class NoAttentionError(CaptureError):
    """A model, or a pattern, with no attention site."""


class ReconstructionError(CaptureError):
    """A record whose ``f(g, x)`` differs from the model's output."""


class AttributionError(AttnvizError):
    """An attribution method that does not apply to this model."""


class DeviceError(AttnvizError):
    """A device that is not available."""


class DataError(AttnvizError):
    """Training or evaluation data that is missing or too small."""


class OutputError(AttnvizError):
    """Results that cannot be written, or that would overwrite others."""
