"""The results of one model."""

from collections import Counter
from dataclasses import dataclass, field

from conformance.entry import Entry

TOLERANCE = 1e-5


@dataclass
class Result:
    """The results of one model. Numbers are of a batch of two, faults of batches of one and of two.

    Attributes:
        entry: The model.
        kinds: Number of found sites by kind.
        named: Number of modules of the independent list that ran.
        reported: Those modules without a site, but with a report in ``unclaimed``, as ``path (class)``.
        explained: Those modules that are known misses, with the reason.
        missed: Those modules with neither.
        false_sites: Sites in a network without attention.
        silent: Sites without a record in the captured run.
        unequal: Sites that are found with one image and not with two, or the reverse.
        difference: Largest difference of an output, relative to the largest output; 0 is bit-identical.
        fused: Number of sites inside a fused operation, which a capture of whole maps replaces.
        rows_difference: The difference if rows are kept, so that fused operations run unchanged.
        reconstruction: Largest relative error of ``f(g, x)``.
        unproved: Records that cannot be verified, each with its error.
        maps: Number of records with a map of the images.
        refused: Number of records without one, by the reason.
        wrong_maps: Maps of another batch, and errors other than ``CaptureError``.
        left: State that was not restored after a normal and after a failing run.
        unclaimed: Operations that look like attention and were not captured, by the reason.
        seconds: Time of a plain forward pass, of finding, and of a capture with known sites.
        error: The error that stopped the measurement.
    """

    entry: Entry
    kinds: Counter[str] = field(default_factory=Counter)
    named: int = 0
    reported: list[str] = field(default_factory=list)
    explained: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    false_sites: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    difference: float = 0.0
    fused: int = 0
    rows_difference: float = 0.0
    reconstruction: float = 0.0
    unproved: list[str] = field(default_factory=list)
    maps: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong_maps: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unclaimed: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def found(self) -> int:
        """Number of modules of the independent list with a site."""
        return self.named - len(self.reported) - len(self.explained) - len(self.missed)

    @property
    def faults(self) -> list[str]:
        """All faults; empty for a model that conforms."""
        found = [f"missed: {text}" for text in self.missed]
        if not self.entry.known_sites:
            found += [f"false site: {text}" for text in self.false_sites]
        elif not self.false_sites:
            found.append("the known false sites are not found any more: remove their reason")
        if not self.entry.attention:
            found += [f"reported in a network without attention: {text}" for text in self.unclaimed]
        found += [f"no record: {text}" for text in self.silent]
        if not self.entry.varies:
            found += [f"depends on the batch size: {text}" for text in self.unequal]
        elif not self.unequal:
            found.append("the sites do not depend on the batch size any more: remove the reason")
        found += [f"not verified: {text}" for text in self.unproved]
        found += [f"map: {text}" for text in self.wrong_maps]
        found += [f"not restored: {text}" for text in self.left]
        if not self.difference <= (TOLERANCE if self.fused else 0.0):
            found.append(f"outputs differ by {self.difference:.1e}")
        if self.rows_difference != 0.0:
            found.append(f"outputs differ by {self.rows_difference:.1e} if rows are kept")
        return found + ([f"error: {self.error}"] if self.error else [])
