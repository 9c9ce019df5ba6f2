"""Models of the user: files with a function, weights, class names, preprocessing; and no silent guess."""

import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.errors import GuessWarning, ModelError, UnknownNameError, WeightsError
from attnviz.media.images import Preprocess, load_images
from attnviz.models import load_model

SOURCE = '''
import torch
from torch import nn
from own_helper import CLASSES
from attnviz.media.images import Preprocess
from attnviz.models import VisionModel

class Net(nn.Module):
    """One channel, 28 × 28, and a view that needs a contiguous input."""
    def __init__(self, classes=CLASSES, channels=1):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, 2, 1)
        self.head = nn.Linear(4 * 14 * 14, classes)

    def forward(self, x):
        assert x.is_contiguous()
        return self.head(torch.relu(self.stem(x)).view(len(x), -1))

class Mean(nn.Module):
    def __init__(self, channels=3, classes=2):
        super().__init__()
        self.stem, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, classes)

    def forward(self, x):
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))

class Grey(Mean):
    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        return super().forward(x.mean(1, keepdim=True))

class Described(Mean):
    input_size, mean, std, classes = (32, 48), [0.1, 0.2, 0.3], torch.tensor([0.5, 0.5, 0.5]), ["u", "v"]

class Late(Mean):
    def __init__(self):
        import own_late
        super().__init__()

def build():
    return Net()

def twelve():
    return Mean(12, 1)

def thousand():
    return Mean(3, 1000)

def needs(width, depth=2):
    return Net()

def vision():
    return VisionModel(Mean(), Preprocess(64, 80), ("a", "b"), "own")

model = Mean()
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a file with models; the modules next to it are importable while it is imported."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "own_models.py").write_text(SOURCE)
    (folder / "own_helper.py").write_text("CLASSES = 2\n")
    (folder / "own_late.py").touch()
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield "models/own_models.py"
    assert sys.path == path
    for name in ("own_models", "own_helper", "own_late"):
        sys.modules.pop(name, None)


def silent(*args, **kwargs):
    """A model that is loaded without a guess."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_model(*args, **kwargs)


@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_file_with_a_function_or_class_is_a_model(own, prefix):
    for name in ("build", "Net"):
        with pytest.warns(
            GuessWarning, match=r"guessed size, resize, mean and std of the input \(28 × 28 pixels, 1 ch"
        ):
            vision = load_model(f"{prefix}{own}:{name}")
        assert vision.preprocess.size == (28, 28)
        assert vision.preprocess.channels == 1
        assert len(vision.labels) == 2
        assert not vision.module.training
        assert any(note.startswith("Guessed size, resize, mean and std") for note in vision.notes)


def test_a_file_can_import_its_neighbours_while_it_builds(own):
    assert silent(f"{own}:Late", preprocess=Preprocess(32)).preprocess == Preprocess(32)


def test_a_file_of_the_name_of_another_module_does_not_replace_it(own, tmp_path):
    (tmp_path / "torch.py").write_text("import torch.nn\ndef build():\n    return torch.nn.Identity()\n")
    before = sys.modules["torch"]
    assert silent("torch.py:build", preprocess=Preprocess(8)).preprocess == Preprocess(8)
    assert sys.modules["torch"] is before


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("own_models.py:build", ModelError, "no such file: own_models.py"),
        (
            "models/own_models.py",
            ModelError,
            r"wanted the name of a function or class too: models/own_models\.py:build",
        ),
        ("models/own_models.py:missing", UnknownNameError, "unknown function of models/own_models.py 'missing'"),
        (
            "models/own_models.py:needs",
            ModelError,
            r"takes the arguments width, wanted none: .* return needs\(\.\.\.\)",
        ),
        ("models/own_models.py:SOURCE X", ModelError, r"package\.module:function or folder/file\.py:function"),
    ],
)
def test_names_of_files_that_cannot_be_used(own, name, error, match):
    with pytest.raises(error, match=match):
        load_model(name)


def test_weights_labels_and_preprocessing_in_one_step(own, tmp_path):
    trained = silent(f"{own}:Net", preprocess=Preprocess(28, mean=(0.5,), std=(0.5,))).module
    state = {f"module.{name}": 2 * tensor for name, tensor in trained.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 7}, tmp_path / "run.pt")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    settings = {"size": (28, 28), "fit": "squash", "mean": [0.5], "std": [0.25]}
    vision = silent(f"{own}:build", tmp_path / "run.pt", labels=tmp_path / "names.txt", preprocess=settings)
    assert vision.labels == ("cat", "dog")
    assert vision.preprocess == Preprocess(28, mean=(0.5,), std=(0.25,), fit="squash")
    assert torch.equal(vision.module.head.weight, state["module.head.weight"])
    assert any("removed 'module.' from" in note for note in vision.notes)
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "a.png")
    assert vision.module(load_images(tmp_path / "a.png", vision.preprocess).x).shape == (1, 2)


def test_what_a_checkpoint_says_is_used_and_what_the_user_says_comes_first(own, tmp_path):
    state = silent(f"{own}:Mean", preprocess=Preprocess(32)).module.state_dict()
    stored = {"state_dict": state, "args": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.4, 0.4], "input_size": [3, 48, 64],
              "crop_pct": 0.8}, "class_to_idx": {"v": 1, "u": 0}}  # fmt: skip
    torch.save(stored, tmp_path / "run.pt")
    vision = silent(f"{own}:Mean", tmp_path / "run.pt")
    assert vision.labels == ("u", "v")
    assert vision.preprocess == Preprocess((48, 64), (60, 80), (0.1, 0.2, 0.3), (0.4, 0.4, 0.4))
    vision = silent(f"{own}:Mean", tmp_path / "run.pt", labels=["a", "b"], preprocess={"mean": (0.9, 0.9, 0.9)})
    assert vision.labels == ("a", "b")
    assert vision.preprocess.mean == (0.9, 0.9, 0.9)
    assert vision.preprocess.std == (0.4, 0.4, 0.4)


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_the_whole_picture_is_used_if_the_user_says_so_whatever_the_library_crops(fit):
    pytest.importorskip("timm")
    preprocess = silent("timm:test_convnext", "none", preprocess={"fit": fit}).preprocess
    assert (preprocess.fit, preprocess.size, preprocess.resize) == (fit, (160, 160), (160, 160))
    preprocess = silent("timm:test_convnext", "none", preprocess={"size": 80}).preprocess
    assert preprocess.fit == "crop"
    assert preprocess.resize[0] > 80


def test_attributes_of_a_model_are_used_and_only_the_rest_is_guessed(own):
    with pytest.warns(GuessWarning, match=r"guessed resize of the input .*: set with --resize or preprocess="):
        vision = load_model(f"{own}:Described")
    assert vision.preprocess.size == (32, 48)
    assert vision.preprocess.mean == (0.1, 0.2, 0.3)
    assert vision.labels == ("u", "v")


def test_a_model_that_converts_colours_takes_three_channels(own):
    with pytest.warns(GuessWarning):
        assert load_model(f"{own}:Grey").preprocess.channels == 3
    with pytest.warns(GuessWarning, match="12 channels"):
        assert load_model(f"{own}:twelve").preprocess.channels == 12


def test_names_of_imagenet_for_a_thousand_classes_are_noted_as_a_guess(own):
    vision = silent(f"{own}:thousand", preprocess=Preprocess(32))
    assert vision.labels[281] == "tabby cat"
    assert "The class names are guessed: those of ImageNet; set them with --labels." in vision.notes


def test_a_model_object_and_a_vision_model_are_taken_as_they_are(own):
    assert silent(f"{own}:model", preprocess=Preprocess(32)).preprocess == Preprocess(32)
    assert silent(f"{own}:vision").preprocess == Preprocess(64, 80)
    vision = silent(f"{own}:vision", labels=("x", "y"), preprocess={"size": 32})
    assert vision.preprocess == Preprocess(32, 40)
    assert vision.labels == ("x", "y")
    assert silent(f"{own}:vision", preprocess={"fit": "letterbox"}).preprocess == Preprocess(64, fit="letterbox")


def test_a_number_of_class_names_that_is_not_the_models_is_refused(own):
    with pytest.raises(ModelError, match="3 class names were given, the model has 2 outputs"):
        load_model(f"{own}:Mean", labels=("a", "b", "c"), preprocess=Preprocess(32))
    with pytest.raises(ModelError, match="own: 3 class names were given, it has 2 classes"):
        load_model(f"{own}:vision", labels=("a", "b", "c"))


def test_other_settings_are_refused(own):
    with pytest.raises(ModelError, match="preprocess: no field 'colour', known are align, fill, fit"):
        load_model(f"{own}:Mean", preprocess={"colour": 3})
    with pytest.raises(ModelError, match="wanted one positive std for each mean"):
        load_model(f"{own}:Mean", preprocess={"size": 32, "mean": (0, 0, 0), "std": (1, 0, 1)})
    with pytest.raises(WeightsError, match=r"run\.pt: no such weights file"):
        load_model(f"{own}:Mean", "run.pt")
    with pytest.raises(ModelError, match=r"fails on an input of shape \(1, 1, 31, 31\).*set its size and channels"):
        load_model(f"{own}:Net", preprocess={"size": 31})


@pytest.mark.parametrize(
    ("options", "channels", "count"),
    [({"num_classes": 0}, 3, 0), ({"in_chans": 1}, 1, 1000), ({"in_chans": 12, "num_classes": 1}, 12, 0),
     ({"num_classes": 1}, 3, 0), ({"num_classes": 7}, 3, 7)],
)  # fmt: skip
def test_timm_models_with_other_ends_load(options, channels, count, tmp_path, monkeypatch):
    pytest.importorskip("timm")
    (tmp_path / "own_timm.py").write_text(
        f"import timm\ndef build():\n    return timm.create_model('test_convnext', **{options!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vision = load_model("own_timm.py:build")
    sys.modules.pop("own_timm", None)
    assert vision.preprocess.channels == channels
    assert vision.preprocess.size == (160, 160)
    assert len(vision.labels) == count
    guesses = [str(one.message) for one in caught if one.category is GuessWarning]
    assert len(guesses) == (channels != 3)


def test_a_timm_model_is_built_with_the_ends_of_its_weights(tmp_path):
    timm = pytest.importorskip("timm")
    state = timm.create_model("test_convnext", num_classes=3, in_chans=1).state_dict()
    torch.save({"state_dict_ema": state, "args": {"mean": [0.3], "std": [0.2]}}, tmp_path / "run.pth")
    vision = silent("timm:test_convnext", tmp_path / "run.pth", labels=("a", "b", "c"))
    assert vision.preprocess.channels == 1
    assert vision.preprocess.mean == (0.3,)
    assert vision.labels == ("a", "b", "c")
    assert torch.equal(vision.module.state_dict()["stem.0.weight"], state["stem.0.weight"])


@pytest.mark.parametrize(("mode", "fit"), [("squash", "squash"), ("border", "letterbox"), ("center", "crop")])
def test_crop_modes_of_timm_are_used(mode, fit, monkeypatch):
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_model_data_config(timm.create_model("test_vit")) | {"crop_mode": mode, "crop_pct": 0.9}
    monkeypatch.setattr(timm.data, "resolve_model_data_config", lambda _: config)
    vision = silent("timm:test_vit", "none")
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    theirs = timm.data.create_transform(**config)(Image.fromarray(picture))
    assert vision.preprocess.fit == fit
    assert (vision.preprocess(picture) - theirs).abs().max() < 0.02 / min(vision.preprocess.std)
