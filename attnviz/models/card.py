"""Model cards: the evaluation figures and the provenance of the shipped weights."""

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
    """Content of a model card's JSON file.

    Attributes:
        model: Name of the model.
        figures: Figures of the held-out evaluation, each a mapping with ``value``, ``low``, ``high`` and ``n``, and
            ``parameters``, ``map_of`` and ``maps``.
        made: Provenance: command, data, hyperparameters and versions.
    """

    model: str
    figures: Mapping[str, Any]
    made: Mapping[str, Any]

    def value(self, name: str) -> float:
        """Return the value of a figure; NaN if the card has none."""
        figure = self.figures.get(name)
        value = figure.get("value") if isinstance(figure, Mapping) else figure
        return math.nan if value is None else float(value)


def card_path(name: str) -> Path:
    """Return the path of a built-in model's JSON card inside the package; the Markdown card is in the same folder."""
    return Path(str(resources.files("attnviz.models").joinpath("cards", f"{name}.json")))


def read_card(name: str) -> Card | None:
    """Read the card of a built-in model; ``None`` if none is shipped.

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
        raise WeightsError(f"{path}: damaged model card ({type(error).__name__}: {error})") from error
