"""A clip from the file to all results: by a model of clips, and by one of single images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attnviz.core.records import Kind
from attnviz.errors import AttributionError, ClipError, OutputError
from attnviz.explanation.clip_attribution import FilmStrip, attribute_frames
from attnviz.explanation.explain import explain
from attnviz.media.images import Preprocess
from attnviz.media.video import read_clip
from attnviz.models import VisionModel
from attnviz.report import describe
from attnviz.report.explanation import html, json_file
from attnviz.targets import ClassLogit

SAMPLES = Path(__file__).parent.parent / "sample_data"
CLIP = SAMPLES / "clip.mp4"
LABELS = ("tench", "tabby cat", "tiger cat", "rocket", "espresso")


class Frames(nn.Module):
    """A feature map of each frame, a gate on it, and a softmax over the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, 6, 5, 4, 2), nn.Conv2d(6, 1, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.score, self.head = nn.Linear(6, 1), nn.Linear(6, len(LABELS))

    def features(self, x):
        x = self.stem(x).relu()
        return self.last(x * torch.sigmoid(self.gate(x))).relu()

    def forward(self, clip):
        pooled = self.features(clip.flatten(0, 1)).mean((2, 3)).unflatten(0, clip.shape[:2])
        g = (30 * self.score(pooled)).softmax(1)
        return self.head((g * pooled).sum(1))


class Single(Frames):
    """The same for a single image, without the frames."""

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def model(kind: type[nn.Module], frames: int | None = None) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return VisionModel(kind().eval(), Preprocess(32, 36), LABELS, "tiny", (), frames)


@pytest.fixture
def together() -> VisionModel:
    return model(Frames, 4)


@pytest.fixture
def single() -> VisionModel:
    return model(Single)


def clip_of(vision, count):
    """The input, from first principles."""
    return vision.preprocess.normalise(np.stack([vision.preprocess.crop(f) for f in read_clip(CLIP, count).frames]))


class TestTogether:
    def test_the_prediction_and_the_weights_are_the_models_own(self, together):
        explanation = explain(CLIP, together, methods=["saliency"])
        x = clip_of(together, 4)[None]
        with torch.no_grad():
            wanted = together.module(x).softmax(1)[0]
        assert explanation.target.probability == pytest.approx(float(wanted.max()), rel=1e-5)
        temporal = next(record for record in explanation.records if record.site.kind is Kind.TEMPORAL)
        assert temporal.g.shape == (1, 4)
        assert float(temporal.g.sum()) == pytest.approx(1)
        assert explanation.clip.shown == int(temporal.g.argmax())
        assert explanation.clip.seconds == pytest.approx((0.5, 1.5, 2.5, 3.5))
        assert np.array_equal(explanation.pixels, explanation.clip.frames[explanation.clip.shown])
        assert any("4 of 48 frames, evenly spaced, were processed together" in note for note in explanation.notes)

    def test_every_frame_has_its_maps_and_the_heaviest_one_represents_the_clip(self, together):
        explanation = explain(CLIP, together)
        names = [heatmap.name for heatmap in explanation.clip.heatmaps]
        assert names == ["(root)", "gradcam", "saliency", "integrated_gradients", "smoothgrad"]
        for whole, one in zip(explanation.clip.heatmaps, explanation.heatmaps, strict=True):
            assert whole.values.shape == (4, 32, 32)
            shown = explanation.clip.shown
            assert torch.equal(one.values, whole.values[shown : shown + 1])
        gate = next(record for record in explanation.records if record.site.kind is Kind.SPATIAL)
        assert gate.g.shape[0] == 1

    def test_saliency_of_frames_is_the_gradient_by_hand(self, together):
        x = clip_of(together, 4)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(together.module(x)[0, 2], x)
        heatmap, gap = attribute_frames(together.module, x.detach(), 2, "saliency")
        assert torch.allclose(heatmap.values, gradient[0].abs().amax(1), rtol=1e-4, atol=1e-8)
        assert gap is None

    def test_grad_cam_of_frames_is_that_by_hand(self, together):
        x, kept = clip_of(together, 4)[None], []
        handle = together.module.last.register_forward_hook(lambda _m, _i, y: kept.append(y))
        logit = together.module(x)[0, 1]
        handle.remove()
        (gradient,) = torch.autograd.grad(logit, kept[0])
        wanted = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu()[:, None]
        wanted = nn.functional.interpolate(wanted, (32, 32), mode="bilinear")[:, 0].detach()
        heatmap, _ = attribute_frames(together.module, x, ClassLogit(1), "gradcam")
        assert heatmap.values.shape == (4, 32, 32)
        assert heatmap.source == "last"
        # the strip is enlarged along its own height first, so that rows at a border differ a little
        assert float((heatmap.values - wanted).abs().mean()) < 0.05 * float(wanted.max())

    def test_integrated_gradients_sum_to_the_rise_over_all_frames(self, together):
        x = clip_of(together, 4)[None]
        heatmap, gap = attribute_frames(together.module, x, ClassLogit(1), "integrated_gradients")
        with torch.no_grad():
            rise = (together.module(x) - together.module(torch.zeros_like(x)))[0, 1]
        assert float(heatmap.values.sum()) - gap == pytest.approx(float(rise), abs=1e-4)

    def test_a_strip_is_cut_into_the_frames_that_it_was_made_of(self):
        clip = torch.rand(1, 3, 3, 4, 5)
        strip = clip[0].transpose(0, 1).flatten(1, 2)[None]
        assert strip.shape == (1, 3, 12, 5)
        assert torch.equal(FilmStrip(nn.Identity(), 3)(strip), clip)

    def test_another_number_of_frames(self, together):
        explanation = explain(CLIP, together, methods=[], frames=6)
        assert len(explanation.clip.frames) == explanation.settings["frames"] == 6

    def test_the_model_is_left_as_it_was(self, together):
        together.module.train()
        explain(CLIP, together, methods=["gradcam"])
        assert together.module.training
        assert not any(part._forward_hooks for part in together.module.modules())

    def test_a_method_without_frames_is_an_error(self, together, monkeypatch):
        from attnviz.attribution import METHODS

        def fail(*_args, **_kwargs):
            raise AttributionError("saliency: not for strips")

        monkeypatch.setattr(type(METHODS["saliency"]), "__call__", fail)
        with pytest.raises(AttributionError, match="not for strips"):
            explain(CLIP, together, methods=["saliency"])

    def test_a_photograph_is_no_clip(self, together):
        with pytest.raises(ClipError, match=r"chelsea\.png: tiny takes 4 frames of a clip, wanted a video"):
            explain(SAMPLES / "chelsea.png", together)


class TestOneByOne:
    def test_the_prediction_is_the_mean_over_frames(self, single):
        explanation = explain(CLIP, single, methods=["saliency"])
        x = clip_of(single, 8)
        with torch.no_grad():
            shares = single.module(x).softmax(1)
        target = explanation.target
        assert target.index == int(shares.mean(0).argmax())
        assert target.probability == pytest.approx(float(shares.mean(0).max()), rel=1e-5)
        assert explanation.clip.by_frame == pytest.approx(shares[:, target.index].tolist(), rel=1e-5)
        assert explanation.clip.shown == int(shares[:, target.index].argmax())
        assert any("8 of 48 frames, evenly spaced, were processed one by one" in note for note in explanation.notes)

    def test_every_frame_is_explained_as_a_photograph_would_be(self, single):
        explanation = explain(CLIP, single, methods=["saliency"], frames=3)
        for index, frame in enumerate(read_clip(CLIP, 3).frames):
            alone = explain(frame, single, methods=["saliency"], target=explanation.target.index)
            for whole, one in zip(explanation.clip.heatmaps, alone.heatmaps, strict=True):
                assert torch.allclose(whole.values[index], one.values[0], rtol=1e-4, atol=1e-7)

    def test_records_are_of_the_frame_that_is_shown(self, single):
        explanation = explain(CLIP, single, methods=[])
        shown = read_clip(CLIP, 8).frames[explanation.clip.shown]
        alone = explain(shown, single, methods=[])
        assert torch.allclose(explanation.records[0].g, alone.records[0].g, atol=1e-6)


class TestReport:
    @pytest.fixture(params=["together", "single"])
    def document(self, request):
        return describe(explain(CLIP, request.getfixturevalue(request.param), methods=["saliency"]))

    def test_everything_comes_back_from_the_file(self, document, tmp_path):
        json_file.write(document, tmp_path / "e.json")
        back = json_file.load(tmp_path / "e.json")
        assert html.render(back) == html.render(document)
        assert np.array_equal(back.clip.frames, document.clip.frames)

    def test_the_page_shows_every_frame_with_its_weight_and_its_maps(self, document):
        text = html.render(document)
        assert text.count('alt="frame at ') == len(document.clip.frames)
        for maps in document.clip.maps:
            title = "Saliency" if maps.kind == "attribution" else maps.name
            assert text.count(f'alt="{title} at ') == len(document.clip.frames)
        assert f'scope="row">{document.clip.weight_name}</th>' in text

    def test_maps_of_all_frames_have_one_scale(self, document):
        maps = document.clip.maps[-1]
        views = [maps.of(frame) for frame in range(len(document.clip.frames))]
        assert len({(one.low, one.high) for one in views}) == 1
        assert max(float(one.values.max()) for one in views) >= 0.9 * maps.high

    def test_the_animation_has_every_frame(self, document, tmp_path):
        from PIL import Image

        from attnviz.report.explanation import gif

        gif.write(document, tmp_path / "o.gif")
        with Image.open(tmp_path / "o.gif") as image:
            assert image.n_frames == len(document.clip.frames)
            assert image.info["loop"] == 0
            assert image.size[0] == 2 * 256 + 4

    def test_a_photograph_has_no_animation(self, single, tmp_path):
        explanation = explain(SAMPLES / "chelsea.png", single, methods=[])
        with pytest.raises(OutputError, match="a still image has no frames to animate"):
            explanation.save(tmp_path / "o.gif")
        assert list(tmp_path.iterdir()) == []

    def test_a_summary_has_weights_and_no_arrays(self, document):
        summary = json_file.dump(document, arrays=False)["clip"]
        assert len(summary["weights"]) == len(document.clip.frames)
        assert "frames" not in summary
