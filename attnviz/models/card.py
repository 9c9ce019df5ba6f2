"""Model cards: what was measured of a built-in model when it was trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from attnviz.errors import WeightsError


@dataclass(frozen=True, slots=True)
class Card:
    """The facts of a model card, as its JSON holds them.

    Attributes:
        model: Name of the model.
        figures: What the held-out evaluation measured: each a mapping with ``value``, ``low``, ``high`` and ``n``,
            beside ``parameters``, ``map_of`` and ``sites``.
        made: How: command, recipe, data, versions.
    """

    model: str
    figures: Mapping[str, Any]
    made: Mapping[str, Any]

    def value(self, name: str) -> float:
        """One figure's value, NaN where the card has none."""
        figure = self.figures.get(name)
        value = figure.get("value") if isinstance(figure, Mapping) else figure
        return math.nan if value is None else float(value)


def card_path(name: str) -> Path:
    """Where the card of a built-in model lies inside the package, as JSON; the text for people lies beside it."""
    return Path(str(resources.files("attnviz.models").joinpath("cards", f"{name}.json")))


def read_card(name: str) -> Card | None:
    """The card of a built-in model; ``None`` where none is shipped.

    Raises:
        WeightsError: the card is damaged.
    """
    path = card_path(name)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Card(content["model"], content["figures"], content["made"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: a damaged model card ({type(error).__name__}: {error})") from error
