"""Figures of the evaluation on held-out views."""

import json

import numpy as np
import pytest
import torch

from attnviz.errors import DataError, UnknownNameError
from attnviz.heatmaps.joint_gates import JOINT
from attnviz.metrics.localisation import pointing
from attnviz.models import attend
from attnviz.models.card import card_path
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.evaluation import evaluate
from attnviz.training.features import DataRecipe, Teacher
from attnviz.training.map_scores import FEATURE_NORM, energy
from attnviz.training.scenes import as_input
from builtin_training.card import card_text, write_cards


def ignore(_):
    """A progress callback without effect."""


@pytest.fixture(scope="module")
def views(sources):
    return list(DataRecipe(10, held_out=True).make(sources))


@pytest.fixture(scope="module")
def results(views):
    models = {name: attend(name, pretrained_trunk()) for name in ("none", "senet", "cbam")}
    return {result.model: result for result in evaluate(models, pretrained_trunk(), views, ignore)}


def test_a_map_scores_where_its_maximum_is_on_the_object():
    maps = torch.zeros(3, 4, 4)
    maps[0, 1, 2] = 1
    maps[1, 3, 3] = 1
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[:, 1, 2] = True
    masks[2, 0, 0] = True  # the third map is constant: it has no maximum, not one at the first pixel
    assert pointing(maps, masks).tolist() == [1, 0, 0]


def test_the_control_agrees_with_the_trunk_on_every_photograph(results, views):
    none = results["none"]
    assert none.plain.n == 0 or none.plain.value == 1
    assert none.parameters == 0
    assert none.map_of.startswith(FEATURE_NORM)
    assert len(none.maps) == 9 + 1  # the blocks where other models have gates, and their sum
    assert none.kl.n == sum(view.kind == "scene" for view in views)


def test_chance_is_the_share_of_the_scene_that_the_object_covers(results, views):
    shares = [view.mask.mean() for view in views if view.kind == "scene"]
    assert results["cbam"].chance.value == pytest.approx(np.mean(shares))


def test_the_divergence_is_from_the_teachers_prediction(results, views):
    trunk, values = pretrained_trunk(), []
    teacher = Teacher(trunk)
    for view in views:
        if view.kind == "scene":
            with torch.no_grad():
                log_q = trunk(as_input(view.pixels[None])).log_softmax(1)[0]
            log_p = teacher(view)
            values.append(float((log_p.exp() * (log_p - log_q)).sum()))
    assert results["none"].kl.value == pytest.approx(np.mean(values), abs=1e-3)


def test_a_spatial_gate_is_scored_before_channel_gates(results):
    assert results["cbam"].map_of.endswith("attention.spatial") or results["cbam"].map_of == JOINT
    assert results["senet"].map_of.startswith("blocks.")
    assert len([name for name in results["cbam"].maps if "(" not in name]) == 18 + 1  # the gates and the joint map
    assert JOINT in results["cbam"].maps
    assert len([name for name in results["senet"].maps if "(" not in name]) == 9


def test_the_gain_over_the_control_is_paired_scene_by_scene(results):
    none, cbam = results["none"], results["cbam"]
    assert not none.gains
    for key in ("kl", "top1", "top5", "pointing"):
        of_cbam, of_none, gain = getattr(cbam, key), getattr(none, key), cbam.gains[key]
        assert gain.n == of_cbam.n
        if gain.n:
            assert gain.value == pytest.approx(of_cbam.value - of_none.value)
        if gain.n > 1:
            assert gain.low <= gain.value <= gain.high


def test_the_scored_map_can_be_chosen_by_the_caller(views):
    models = {"cbam": attend("cbam", pretrained_trunk())}
    chosen = "blocks.6.0.attention.spatial"
    (result,) = evaluate(models, pretrained_trunk(), views[:4], ignore, {"cbam": chosen})
    assert result.map_of == chosen
    with pytest.raises(UnknownNameError, match=r"unknown map of cbam 'blocks\.9'"):
        evaluate(models, pretrained_trunk(), views[:4], ignore, {"cbam": "blocks.9"})


def test_the_progress_callback_counts_all_views(views):
    counts = []
    evaluate({"none": attend("none", pretrained_trunk())}, pretrained_trunk(), views, counts.append)
    assert sum(counts) == 10


def test_only_scenes_are_an_error(sources):
    views = DataRecipe(3, plain_share=0, held_out=True).make(sources)
    with pytest.raises(DataError, match="needs scenes and plain photographs"):
        evaluate({"none": attend("none", pretrained_trunk())}, pretrained_trunk(), views, ignore)


def test_figures_are_strict_json(results):
    for result in results.values():
        content = json.loads(json.dumps(result.as_dict(), allow_nan=False))
        assert content["kl"]["value"] == result.kl.value
        if result.top1.n == 0:
            assert content["top1"]["value"] is None


def test_the_card_holds_figures_data_recipe_command_and_limits(results):
    facts = {
        "model": "cbam",
        "figures": results["cbam"].as_dict(),
        "made": {
            "command": "python builtin_training/train.py cbam --seed 7",
            "data": {
                "views": 10, "plain_share": 0.5, "seed": 7,
                "trained_on": {"objects": 11, "photographs": 9}, "held_out": {"objects": 1, "photographs": 3},
            },
            "training": {"plain_weight": 1.5, "learning_rate": 0.005, "epochs": 4, "batch": 32, "seed": 7},
            "versions": {"torch": "2.0"},
        },
    }  # fmt: skip
    text = card_text(facts)
    for part in (
        "# cbam",
        f"{results['cbam'].kl.value:.2f}",
        "\n    python builtin_training/train.py cbam --seed 7",
        "11 objects and 9",
        "torch 2.0",
        "## Limits",
    ):
        assert part in text


def test_energy_is_the_share_of_the_mass_on_the_object_above_the_minimum():
    maps = torch.tensor([[[1.0, 2.0], [1.0, 4.0]], [[3.0, 3.0], [3.0, 3.0]]])
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    masks[:, 1, 1] = True
    assert energy(maps, masks).tolist() == [0.75, 0.0]  # a constant map has no mass


def test_clips_are_compared_with_the_mean_over_their_frames(sources):
    views = list(DataRecipe(6, held_out=True, frames=3).make(sources))
    models = {name: attend(name, pretrained_trunk()) for name in ("none", "temporal")}
    none, temporal = evaluate(models, pretrained_trunk(), views, ignore)
    assert none.frames == temporal.frames == 3
    assert none.kl.value == pytest.approx(temporal.kl.value, abs=1e-4)  # untrained, it computes the mean
    assert temporal.map_of == "attention"
    shares = [view.mask.any((1, 2)).mean() for view in views if view.kind == "scene"]
    assert temporal.chance.value == pytest.approx(np.mean(shares))
    assert temporal.gradcam.n == 0
    assert temporal.cost.flops_ratio == pytest.approx(1, abs=0.01)


def test_the_shipped_cards_are_the_text_of_their_json(tmp_path):
    folder = card_path("none").parent
    for path in folder.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    write_cards(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.md")} == {
        path.name: path.read_text() for path in folder.glob("*.md")
    }
