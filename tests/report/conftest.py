"""A synthetic explanation with several kinds of maps, signed values, NaN scores and HTML in a file name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.batch.run import fill_glossary
from attnviz.core.explanation_results import Prediction
from attnviz.core.records import Heatmap, Kind, Record, Score, Site
from attnviz.explanation.result import Explanation
from attnviz.report import describe
from attnviz.tracing import Gate

fill_glossary()

SAMPLES = Path(__file__).parents[2] / "sample_data"
SIDE = 224


def bump(row: float, column: float, width: float, side: int = SIDE) -> torch.Tensor:
    """Return a Gaussian bump on the image plane, ``(1, side, side)``."""
    axis = torch.linspace(0, 1, side)
    return torch.exp(-(((axis[:, None] - row) / width) ** 2 + ((axis[None, :] - column) / width) ** 2))[None]


def gate_record(module: str, kind: Kind, g: torch.Tensor, type_name: str, ordinal: int = 0) -> Record:
    channels = 48
    x = torch.rand(1, channels, 14, 14, generator=torch.Generator().manual_seed(3))
    if kind is Kind.SPATIAL:
        use, y = Gate(kind, 1, 1), x * g[:, None]
    else:
        use, y = Gate(kind, 1, 1), x * g[:, :, None, None]
    site = Site(module, ordinal, kind, "mul", ordinal, use, type_name, "/somewhere/cbam.py:41", "sigmoid")
    return Record(site, 0, g, x, y)


def _attention(generator: torch.Generator) -> tuple[list[Record], list[Heatmap]]:
    records, heatmaps = [], []
    for stage in (3, 4, 5):
        channel = torch.sigmoid(torch.randn(1, 48, generator=generator) * stage / 2)
        spatial = torch.sigmoid(4 * bump(0.45, 0.5, 0.12 * stage / 3, 14) - 2)
        records += [
            gate_record(f"blocks.{stage}.cbam.channel", Kind.CHANNEL, channel, "ChannelGate"),
            gate_record(f"blocks.{stage}.cbam.spatial", Kind.SPATIAL, spatial, "SpatialGate"),
        ]
        energy = bump(0.4, 0.45, 0.3) + 0.2 * torch.rand(1, SIDE, SIDE, generator=generator)
        large = torch.nn.functional.interpolate(spatial[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
        heatmaps += [
            Heatmap(energy, "channel-energy", records[-2].name, "attention"),
            Heatmap(large, "gate", records[-1].name, "attention"),
        ]
    return records, heatmaps


def _scores(names: list[str], records: list[Record], generator: torch.Generator) -> list[Score]:
    scores = [
        Score(measure, (a, b), float(torch.rand((), generator=generator)), "more alike", low, 1.0)
        for measure, low in (("spearman", -1.0), ("ssim", -1.0), ("topk_iou", 0.0))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    scores += [
        Score(measure, (record.name, part), float(torch.rand((), generator=generator)), "sparser", 0.0, 1.0)
        for record in records
        for measure in ("hoyer", "gini", "normalised_entropy", "near_zero_share")
        for part in ("g", "x", "y")
    ]
    scores[0] = Score("spearman", (names[0], names[1]), float("nan"), "more alike", -1.0, 1.0, "a constant map")
    return scores


def make_explanation(image: str = "sample_data/chelsea.png") -> Explanation:
    """Return an explanation of the cat by CBAM with random values."""
    generator = torch.Generator().manual_seed(0)
    photo = np.array(Image.open(SAMPLES / "chelsea.png").convert("RGB").crop((94, 19, 356, 281)))
    pixels = np.array(Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    records, heatmaps = _attention(generator)
    noise = torch.randn(1, SIDE, SIDE, generator=generator)
    heatmaps += [
        Heatmap(bump(0.5, 0.5, 0.35), "gradcam", "blocks.6", "attribution"),
        Heatmap(noise.abs() * bump(0.5, 0.5, 0.3), "saliency", "", "attribution"),
        Heatmap(noise * bump(0.5, 0.5, 0.3), "integrated_gradients", "", "attribution"),
        Heatmap(noise.abs().sqrt() * bump(0.5, 0.5, 0.3), "smoothgrad", "", "attribution"),
    ]
    scores = _scores([heatmap.name for heatmap in heatmaps], records, generator)
    predictions = (
        Prediction(282, "tiger cat", 0.39),
        Prediction(285, "Egyptian cat", 0.36),
        Prediction(281, "tabby, tabby cat", 0.17),
        Prediction(287, "lynx, catamount", 0.02),
        Prediction(728, "plastic bag", 0.004),
    )
    settings = {
        "model": "cbam", "methods": ["gradcam", "saliency", "integrated_gradients", "smoothgrad"], "sites": "*",
        "weights": "default", "device": "cpu",
        "seed": 0, "image_size": [300, 451], "versions": {"attnviz": "0.1.0", "torch": "2.14.1"},
    }  # fmt: skip
    return Explanation(image, pixels, "cbam", predictions, predictions[0], tuple(records), tuple(heatmaps),
                       tuple(scores), settings, ("animation: the first of 2 frames is explained",), photo)  # fmt: skip


@pytest.fixture(scope="session")
def explanation() -> Explanation:
    return make_explanation()


@pytest.fixture(scope="session")
def document(explanation):
    return describe(explanation)


@pytest.fixture(scope="session")
def html_name() -> Explanation:
    """The same explanation for a file whose name is HTML."""
    return make_explanation("<img src=x onerror=alert(1)>'\"&.png")


@pytest.fixture(scope="module")
def browser():
    """A real Chromium, for tests with the marks of ``chromium.NEEDED``."""
    from chromium import running

    with running() as one:
        yield one
