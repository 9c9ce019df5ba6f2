"""One image from the file to all results, and the model unchanged afterwards."""

import copy
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attnviz.core.records import Heatmap, Kind, Record
from attnviz.errors import (
    AttributionError,
    DeviceError,
    ImageError,
    ModelError,
    ReconstructionError,
    TargetError,
    UnknownNameError,
)
from attnviz.explanation.explain import COMPARED_PX, PHOTO_PX, choose_device, explain
from attnviz.explanation.model_inputs import photos, prepare
from attnviz.explanation.scores import agreement
from attnviz.media.image_decoding import decode
from attnviz.media.images import Preprocess
from attnviz.metrics.agreement import AGREEMENT
from attnviz.metrics.sparsity import hoyer
from attnviz.models import VisionModel

SAMPLES = Path(__file__).parent.parent / "sample_data"
LABELS = ("tench", "tabby cat", "tiger cat", "rocket", "espresso", "mug")


class Gated(nn.Module):
    """A channel gate, a spatial gate, and one gate that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.se = SE()
        self.spatial = nn.Conv2d(6, 1, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, len(LABELS))

    def forward(self, x):
        x = self.se(self.norm(self.stem(x)).relu())
        x = self.se(x * torch.sigmoid(self.spatial(x)))
        return self.head(self.drop(self.last(x).relu().mean((2, 3))))


class SE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(x.mean((2, 3))))[:, :, None, None]


@pytest.fixture
def vision() -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return VisionModel(Gated().eval(), Preprocess(48, 56), LABELS, "gated", ("a note of the model",))


@pytest.fixture
def image() -> Path:
    return SAMPLES / "chelsea.png"


class TestWhatItSays:
    def test_predictions_are_the_models_own(self, vision, image):
        explanation = explain(image, vision, methods=["saliency"])
        with torch.no_grad():
            wanted = vision.module(vision.preprocess(decode(image).pixels)[None]).softmax(1)[0]
        assert [p.index for p in explanation.predictions] == wanted.argsort(descending=True)[:5].tolist()
        assert explanation.predictions[0].probability == pytest.approx(float(wanted.max()), rel=1e-5)
        assert explanation.predictions[0].label == LABELS[int(wanted.argmax())]
        assert explanation.target == explanation.predictions[0]

    def test_every_site_and_call_has_a_record_and_a_map(self, vision, image):
        explanation = explain(image, vision, methods=["saliency"])
        assert [record.name for record in explanation.records] == ["se", "(root)", "se@1"]
        assert [heatmap.name for heatmap in explanation.heatmaps] == ["se", "(root)", "se@1", "saliency"]
        assert all(heatmap.values.shape == (1, 48, 48) for heatmap in explanation.heatmaps)
        assert [record.site.kind for record in explanation.records] == [Kind.CHANNEL, Kind.SPATIAL, Kind.CHANNEL]
        for record in explanation.records:
            assert record.verify() < 1e-6

    def test_every_pair_and_every_site_is_measured(self, vision, image):
        explanation = explain(image, vision, methods=["saliency", "gradcam"])
        subjects = [score.subject for score in explanation.scores if score.measure == "spearman"]
        assert len(subjects) == len(set(subjects)) == 5 * 4 // 2
        for record in explanation.records:
            for part in "gxy":
                measures = {score.measure for score in explanation.scores if score.subject == (record.name, part)}
                assert measures == {"gini", "hoyer", "near_zero_share", "normalised_entropy"}
        between = {score.measure for score in explanation.scores if score.subject == subjects[0]}
        assert between == {"spearman", "ssim", "topk_iou"}

    def test_numbers_are_those_of_the_measures(self, vision, image):
        explanation = explain(image, vision, methods=["saliency"])
        scores = {(score.measure, score.subject): score for score in explanation.scores}
        record = explanation.records[0]
        assert scores["hoyer", ("se", "g")].value == pytest.approx(float(hoyer(record.g)[0]))
        assert scores["hoyer", ("se", "y")].value == pytest.approx(float(hoyer(record.y.detach())[0]), abs=1e-6)
        a, b = (explanation.heatmaps[i].values for i in (1, 3))
        assert max(a.shape) <= COMPARED_PX
        one = scores["topk_iou", ("(root)", "saliency")]
        assert one.value == pytest.approx(float(AGREEMENT["topk_iou"](a, b)[0]))
        assert (one.low, one.high, one.higher_is) == (0, 1, AGREEMENT["topk_iou"].higher_is)

    def test_a_map_with_both_signs_is_compared_by_its_strength(self):
        side = 2 * COMPARED_PX
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        hill = torch.exp(-((rows - 40) ** 2 + (columns - 70) ** 2) / 800)
        signs = 1.0 - 2.0 * ((rows + columns) % 2)  # neighbours cancel wherever they are averaged
        maps = [Heatmap(v[None], name, "input", "attribution") for name, v in (("a", hill), ("b", hill * signs))]
        assert {score.measure: score.value for score in agreement(maps)} == pytest.approx(
            dict.fromkeys(("spearman", "ssim", "topk_iou"), 1.0), abs=1e-3
        )

    def test_an_undefined_number_has_a_reason(self, vision, image):
        nn.init.zeros_(vision.module.spatial.weight)
        explanation = explain(image, vision, methods=["saliency"])
        flat = next(s for s in explanation.scores if s.measure == "spearman" and s.subject == ("(root)", "saliency"))
        assert math.isnan(flat.value)
        assert flat.why == AGREEMENT["spearman"].nan_when
        assert any("g is constant" in note and "(root)" in note for note in explanation.notes)

    def test_notes_of_the_model_and_of_the_picture_are_passed_on(self, vision, tmp_path):
        Image.new("RGBA", (60, 60), (10, 20, 30, 40)).save(tmp_path / "t.png")
        explanation = explain(tmp_path / "t.png", vision, methods=["saliency"])
        assert explanation.notes[:2] == ("transparent pixels are laid on white", "a note of the model")

    def test_a_target_that_is_not_the_prediction_has_a_note(self, vision, image):
        first = explain(image, vision, methods=["saliency"])
        other = explain(image, vision, methods=["saliency"], target=first.predictions[1].label)
        assert other.target.index == first.predictions[1].index
        assert other.target.probability == pytest.approx(first.predictions[1].probability)
        assert any("the predicted class is" in note for note in other.notes)
        assert not torch.equal(other.heatmaps[-1].values, first.heatmaps[-1].values)

    def test_sites_are_chosen_by_pattern(self, vision, image):
        names = lambda pattern: [r.name for r in explain(image, vision, methods=["saliency"], sites=pattern).records]  # noqa: E731
        assert names("se") == ["se", "se@1"]
        assert names("spatial") == ["(root)"]
        assert names("s?, spatial") == ["se", "(root)", "se@1"]

    def test_without_methods_there_are_attention_maps_alone(self, vision, image):
        assert [h.kind for h in explain(image, vision, methods=[]).heatmaps] == ["attention"] * 3

    def test_progress_counts_up_to_the_number_of_steps(self, vision, image):
        seen = []
        explain(image, vision, methods=["saliency"], progress=lambda *step: seen.append(step))
        steps = [one for one in seen if ", " not in one[0]]
        assert [done for _, done, _ in steps] == list(range(len(steps)))
        assert {total for *_, total in seen} == {len(steps)}

    def test_progress_counts_the_images_that_a_method_evaluates(self, vision, image):
        seen = []
        explain(image, vision, methods=["scorecam"], progress=lambda step, *_: seen.append(step))
        of_method = [step for step in seen if step.startswith("attribute by scorecam")]
        assert of_method[0] == "attribute by scorecam"
        counts = [int(step.removeprefix("attribute by scorecam, ").split()[0]) for step in of_method[1:]]
        assert len(counts) > 1
        assert counts == sorted(set(counts))

    def test_a_built_in_model_by_name(self, image):
        explanation = explain(image, "senet", methods=["saliency"], weights="none", sites="blocks.6*")
        assert explanation.model == "senet"
        assert explanation.target.label == explanation.predictions[0].label
        assert explanation.settings["weights"] == "none"
        assert explanation.settings["image_size"] == [300, 451]


class Tokens(nn.Module):
    """Works on five mixtures of tokens after its one convolution, so that it has no positions to explain."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, 8)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        tokens = nn.functional.adaptive_avg_pool1d(self.stem(x).flatten(2), 5).mT
        return self.head(self.mix(tokens).relu().mean(1))


class TestNotes:
    def notes(self, module, image, **options) -> str:
        vision = VisionModel(module.eval(), Preprocess(16, 16), ("a", "b"), "m")
        return "\n".join(explain(image, vision, **options).notes)

    def test_an_empty_cam_means_that_no_position_is_evidence_for_the_class(self, vision, image):
        with torch.no_grad():
            vision.module.head.weight.copy_(-vision.module.head.weight.abs())
        explanation = explain(image, vision, methods=["gradcam", "saliency"])
        assert not explanation.heatmaps[-2].values.any()
        assert (
            "The map is zero everywhere: gradcam; no position of last has evidence for the target." in explanation.notes
        )
        assert sum("zero everywhere" in note for note in explanation.notes) == 1

    def test_an_empty_gradient_means_that_the_logit_does_not_change(self, vision, image):
        nn.init.zeros_(vision.module.head.weight)
        explanation = explain(image, vision, methods=["saliency"])
        wanted = "The map is zero everywhere: saliency; the score does not change with any pixel."
        assert wanted in explanation.notes

    def test_operations_like_attention_that_are_not_captured_have_a_note(self, image):
        class Blocks(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 2)

            def forward(self, x):  # softmax weights on values with six axes: a form that no detector recognises
                x = self.stem(x)
                weights = torch.softmax(x.mean((2, 3)), dim=1)[..., None, None, None, None]
                blocks = x.unflatten(2, (2, -1)).unflatten(4, (2, -1))
                return self.head((weights * blocks).mean((2, 3, 4, 5)))

        text = self.notes(Blocks(), image, methods=["saliency"])
        assert "1 operation that looks like attention was not captured: mul in (root) (test_explain.py:" in text
        assert "`attnviz inspect` lists the reasons." in text

    def test_a_default_method_that_does_not_apply_is_left_out_with_a_note(self, image):
        vision = VisionModel(Tokens().eval(), Preprocess(16, 16), ("a", "b"), "tokens")
        explanation = explain(image, vision)
        methods = [heatmap.method for heatmap in explanation.heatmaps]
        assert methods == explanation.settings["methods"] == ["saliency", "integrated_gradients", "smoothgrad"]
        assert any(note.startswith("Left out, since it does not apply: gradcam: ") for note in explanation.notes)
        with pytest.raises(AttributionError, match="gradcam: the last features with positions are stem's"):
            explain(image, vision, methods=["gradcam"])

    def test_a_gate_that_is_almost_1_has_a_note(self, vision, image):
        nn.init.constant_(vision.module.spatial.bias, 8.0)
        notes = explain(image, vision, methods=["saliency"]).notes
        assert sum(note.startswith("90% or more of g lie within 0.05 of 1") for note in notes) == 1
        assert any(" at (root). The map of a channel gate" in note for note in notes)
        nn.init.constant_(vision.module.spatial.bias, 0.0)
        notes = explain(image, vision, methods=["saliency"]).notes
        assert not any("within 0.05 of 1" in note for note in notes)

    def test_integrated_gradients_have_a_note_about_their_error(self, vision, image):
        explanation = explain(image, vision, methods=["integrated_gradients"])
        x = vision.preprocess(decode(image).pixels)[None]
        with torch.no_grad():
            rise = (vision.module(x) - vision.module(torch.zeros_like(x)))[0, explanation.target.index]
        total = float(explanation.heatmaps[-1].values.sum())
        wanted = f"sums to {total:.2f}; the score rises by {float(rise):.2f} from a blank image"
        assert any(wanted in note for note in explanation.notes)


class TestWhatItTakes:
    def test_pixels_in_place_of_a_file(self, vision, image):
        pixels = decode(image).pixels
        from_pixels, from_file = (explain(given, vision, methods=["saliency"]) for given in (pixels, image))
        assert torch.equal(from_pixels.heatmaps[-1].values, from_file.heatmaps[-1].values)
        assert from_pixels.image == ""

    def test_a_method_as_a_string(self, vision, image):
        assert explain(image, vision, methods="saliency").settings["methods"] == ["saliency"]
        explanation = explain(image, vision, methods="gradcam, saliency")
        assert explanation.settings["methods"] == ["gradcam", "saliency"]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_a_model_of_another_precision(self, vision, image, dtype):
        plain = explain(image, vision)
        vision.module.to(dtype)
        explanation = explain(image, vision)
        assert {record.g.dtype for record in explanation.records} == {dtype}
        assert len(explanation.heatmaps) == len(plain.heatmaps) == 7
        wanted = [score.value for score in plain.scores if score.measure == "hoyer"]
        got = [score.value for score in explanation.scores if score.measure == "hoyer"]
        assert got == pytest.approx(wanted, abs=0.02)

    @pytest.mark.parametrize("target", [5, "5"])
    def test_a_class_without_a_name(self, vision, image, target):
        nameless = replace(vision, labels=())
        explanation = explain(image, nameless, methods=["saliency"], target=target)
        assert (explanation.target.index, explanation.target.label) == (5, "class 5")


class TestTheTrainedModel:
    def test_its_spatial_gates_make_one_map_too_and_one_gate_alone_does_not(self, image):
        several = explain(image, model="cbam", methods=[])
        alone = explain(image, model="cbam", methods=[], sites="blocks.5.1*")
        assert [m.name for m in several.heatmaps].count("spatial gates together") == 1
        assert "spatial gates together" not in [m.name for m in alone.heatmaps]

    def test_the_cat_is_predicted_and_every_gate_has_scores(self, image):
        explanation = explain(image, "cbam", methods=["gradcam"])
        assert explanation.target.index in {281, 282, 285}  # tabby, tiger cat, Egyptian cat
        assert sum(p.probability for p in explanation.predictions if p.index in {281, 282, 285}) > 0.6
        assert {record.site.kind for record in explanation.records} == {Kind.CHANNEL, Kind.SPATIAL}
        assert not any("g is constant" in note for note in explanation.notes)
        cam = explanation.heatmaps[-1].values[0]
        assert cam[56:168, 28:196].mean() > cam.mean()  # the face, against the fur at the rim


class TestPhoto:
    def seen(self, picture):
        vision = VisionModel(Gated(), Preprocess(224, 256), LABELS, "gated")
        return photos(prepare(picture, vision), vision, PHOTO_PX)

    def test_the_crop_is_shown_at_its_own_resolution(self, image):
        picture = decode(image)
        assert self.seen(picture).shape == (1, 263, 263, 3)
        assert np.array_equal(Preprocess(224, 256).crop(picture.pixels, (263, 263)), self.seen(picture)[0])

    def test_but_not_above_a_limit_and_not_below_the_resolution_of_the_model(self, image):
        picture = decode(image)
        large = replace(picture, pixels=np.zeros((3000, 4000, 3), np.uint8))
        assert self.seen(large).shape == (1, PHOTO_PX, PHOTO_PX, 3)
        small = replace(picture, pixels=np.zeros((100, 100, 3), np.uint8))
        assert self.seen(small) is None


def state_of(vision: VisionModel) -> dict[str, object]:
    """Everything about a model and torch that an explanation could change."""
    parts = dict(vision.module.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "mode": {name: part.training for name, part in parts.items()},
        "hooks": {name: [len(getattr(part, hook)) for hook in hooks] for name, part in parts.items()},
        "attributes": {name: sorted(vars(part)) for name, part in parts.items()},
        "flags": {name: p.requires_grad for name, p in vision.module.named_parameters()},
        "grads": {name: None if p.grad is None else p.grad.clone() for name, p in vision.module.named_parameters()},
        "identities": {name: id(p) for name, p in vision.module.named_parameters()},
        "values": copy.deepcopy(vision.module.state_dict()),
        "rng": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return a == b


class TestBorrowing:
    @pytest.fixture
    def lent(self, vision) -> VisionModel:
        """In training mode, with a gradient, a frozen parameter and a hook of its owner."""
        vision.module.train()
        vision.module.norm.eval()
        vision.module.stem.weight.requires_grad = False
        vision.module.head.weight.grad = torch.ones_like(vision.module.head.weight)
        vision.module.last.register_forward_hook(lambda *_: None)
        return vision

    def test_the_model_is_left_exactly_as_it_was(self, lent, image):
        before = state_of(lent)
        explain(image, lent, methods=["gradcam", "saliency", "integrated_gradients", "smoothgrad"])
        assert same(state_of(lent), before)

    @pytest.mark.parametrize("moment", ["capture", "attribution", "measure", "target", "site"])
    def test_also_after_an_error(self, lent, image, monkeypatch, moment):
        before = state_of(lent)
        options: dict[str, object] = {"methods": ["saliency", "smoothgrad"]}
        wanted: tuple[type[Exception], str] = (RuntimeError, "on purpose")

        def fail(*_args, **_kwargs):
            raise RuntimeError("on purpose")

        if moment == "capture":
            handle = lent.module.last.register_forward_pre_hook(fail)
        elif moment == "attribution":
            monkeypatch.setattr("captum.attr.NoiseTunnel.attribute", fail)
        elif moment == "measure":
            monkeypatch.setattr(sys.modules[explain.__module__], "sparsity", fail)
        elif moment == "target":
            options["target"], wanted = 99, (TargetError, "class 99")
        else:
            options["sites"], wanted = "nowhere", (UnknownNameError, "unknown attention site 'nowhere'")
        with pytest.raises(wanted[0], match=wanted[1]):
            explain(image, lent, **options)
        if moment == "capture":
            handle.remove()
        assert same(state_of(lent), before)

    def test_what_is_compared_can_differ(self, lent):
        before = state_of(lent)
        torch.rand(1)
        assert not same(state_of(lent), before)

    def test_the_same_seed_gives_the_same_maps_and_another_seed_others(self, vision, image):
        maps = [explain(image, vision, methods=["smoothgrad"], seed=seed).heatmaps[-1].values for seed in (0, 0, 1)]
        assert torch.equal(maps[0], maps[1])
        assert not torch.equal(maps[0], maps[2])


class Nothing(nn.Module):
    """A model that returns no tensor."""

    def forward(self, x):
        return "nothing"


class TestErrors:
    def test_an_unknown_method_is_an_error_before_a_model_is_loaded(self, image):
        with pytest.raises(UnknownNameError, match="unknown attribution method 'saliencey': did you mean saliency"):
            explain(image, "timm:resnet18", methods=["saliencey"])

    def test_an_unknown_model_suggests_the_nearest(self, image):
        with pytest.raises(UnknownNameError, match="unknown model 'cbamm': did you mean cbam"):
            explain(image, "cbamm")

    @pytest.mark.parametrize("target", [3.5, True, [3]])
    def test_a_target_that_is_no_class(self, vision, image, target):
        with pytest.raises(TargetError, match="wanted the index or the name of a class, got "):
            explain(image, vision, methods=["saliency"], target=target)

    @pytest.mark.parametrize("target", [-1, "-1", 6])
    def test_a_target_out_of_range(self, vision, image, target):
        with pytest.raises(TargetError, match=rf"class {target}: the model has 6 classes, 0 to 5"):
            explain(image, vision, methods=["saliency"], target=target)

    def test_a_module_alone_is_no_model(self, vision, image):
        with pytest.raises(ModelError, match="wanted a model's name or a VisionModel, got a Gated; VisionModel"):
            explain(image, vision.module)

    def test_a_picture_of_another_shape_or_type(self, vision):
        with pytest.raises(ImageError, match=r"an image is \(H, W, C\) or \(H, W\), got an array of shape \(8,\)"):
            explain(np.zeros(8, np.uint8), vision)
        with pytest.raises(ImageError, match=r"wanted an image file or an array .* got a Tensor"):
            explain(torch.zeros(3, 8, 8), vision)

    def test_sites_whose_names_are_numbers_are_quoted(self, image):
        layers = nn.Sequential(nn.Conv2d(3, 6, 3), SE(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
        vision = VisionModel(layers.eval(), Preprocess(16, 16), ("a", "b"), "layers")
        with pytest.raises(UnknownNameError, match=r"unknown attention site 'nope': known are '1'$"):
            explain(image, vision, methods=["saliency"], sites="nope")

    def test_a_pattern_of_sites_without_a_name_is_an_error(self, vision, image):
        with pytest.raises(UnknownNameError, match="unknown attention site ','"):
            explain(image, vision, methods=["saliency"], sites=",")

    def test_an_output_without_a_task_is_named(self, image):
        vision = VisionModel(Nothing(), Preprocess(16, 16), ("a", "b"), "nothing")
        with pytest.raises(ModelError, match="no task fits the output, a str"):
            explain(image, vision)

    def test_a_method_that_does_not_apply_is_named(self, image):
        class Flat(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head = nn.Linear(3, 2)

            def forward(self, x):
                return self.head(x.detach().mean((2, 3)))

        with pytest.raises(AttributionError, match="no gradient flows"):
            explain(image, VisionModel(Flat(), Preprocess(16, 16), ("a", "b"), "flat"), methods=["saliency"])

    def test_a_record_that_does_not_reconstruct_is_an_error(self, vision, image, monkeypatch):
        monkeypatch.setattr(Record, "reconstruct", lambda record: record.y * 2)
        with pytest.raises(ReconstructionError, match=r"se: f\(g, x\) differs from the model's y"):
            explain(image, vision, methods=["saliency"])


class TestDevices:
    def test_auto_is_a_device_that_is_there(self):
        torch.empty(1, device=choose_device("auto"))

    def test_the_cpu_is_always_there(self):
        assert choose_device("cpu") == torch.device("cpu")

    @pytest.mark.parametrize("name", ["mps", "cuda", "cuda:1"])
    def test_a_device_that_is_not_there(self, name, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        with pytest.raises(DeviceError, match=f"device '{name}' is not there: this machine has cpu"):
            choose_device(name)

    def test_a_device_beyond_the_last(self, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
        assert choose_device("cuda:1") == torch.device("cuda:1")
        with pytest.raises(DeviceError, match="device 'cuda:2' is not there: this machine has 2 CUDA devices"):
            choose_device("cuda:2")

    def test_a_name_that_is_no_device(self):
        with pytest.raises(DeviceError, match="unknown device 'gpu0': wanted auto, cpu, cuda or mps"):
            choose_device("gpu0")

    def test_a_loaded_model_is_not_moved(self, vision, image, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        with pytest.raises(DeviceError, match="gated is on cpu, wanted cuda: move the model"):
            explain(image, vision, device="cuda")


def test_the_layer_of_class_activation_maps_and_its_reason_are_noted(image):
    notes = explain(image, model="cbam", methods=["gradcam", "saliency"]).notes
    assert any(note.startswith("Class activation maps explain the features of head: the last ones") for note in notes)
    notes = explain(image, model="cbam", methods=["saliency"]).notes
    assert not any(note.startswith("Class activation maps") for note in notes)
