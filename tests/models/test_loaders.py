"""Models of other libraries, with random weights and with weights files; without network access."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from attnviz.core.model_outputs import logits_of
from attnviz.errors import GuessWarning, ModelError, UnknownNameError, WeightsError
from attnviz.models import load_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")  # of the libraries


def logits(vision):
    side = vision.preprocess.size[0]
    with torch.no_grad():
        return logits_of(vision.module(torch.zeros(1, 3, side, side)), vision.name)


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16,
        num_labels=3, id2label={0: "ant", 1: "bee", 2: "cat"}, label2id={"ant": 0, "bee": 1, "cat": 2},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_timm_model_comes_with_its_preprocessing():
    pytest.importorskip("timm")
    vision = load_model("timm:test_vit.r160_in1k", "none")
    assert logits(vision).shape == (1, len(vision.labels))
    assert vision.preprocess.size == (160, 160)
    assert vision.name == "timm:test_vit.r160_in1k"
    assert not vision.module.training


def test_a_torchvision_model_comes_with_its_preprocessing_and_class_names():
    pytest.importorskip("torchvision")
    vision = load_model("torchvision:squeezenet1_1", "none")
    assert logits(vision).shape == (1, 1000)
    assert vision.labels[281] == "tabby"
    assert vision.preprocess.mean == (0.485, 0.456, 0.406)


def test_a_transformers_model_loads_from_a_folder_with_its_own_weights(hf_folder):
    vision = load_model(f"hf:{hf_folder}")
    assert tuple(vision.labels) == ("ant", "bee", "cat")
    assert vision.preprocess.size == (32, 32)
    assert torch.equal(logits(vision), logits(load_model(f"hf:{hf_folder}")))
    assert not torch.equal(logits(vision), logits(load_model(f"hf:{hf_folder}", "none", seed=3)))


def test_a_transformers_model_loads_a_weights_file(hf_folder):
    vision = load_model(f"hf:{hf_folder}", hf_folder / "model.safetensors")
    assert torch.equal(logits(vision), logits(load_model(f"hf:{hf_folder}")))


@pytest.mark.parametrize("name", ["timm:test_vit", "torchvision:shufflenet_v2_x0_5"])
def test_random_weights_depend_on_the_seed(name):
    pytest.importorskip(name.partition(":")[0])
    one, same, other = (logits(load_model(name, "none", seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_library_model_loads_a_weights_file(tmp_path):
    pytest.importorskip("timm")
    given = load_model("timm:test_vit", "none", seed=1)
    torch.save({"state_dict": given.module.state_dict()}, tmp_path / "w.pth")
    assert torch.equal(logits(load_model("timm:test_vit", tmp_path / "w.pth")), logits(given))


def test_a_transformers_model_refuses_a_file_that_does_not_fit(hf_folder, tmp_path):
    weights = load_file(hf_folder / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if key != "classifier.bias"}, tmp_path / "short.safetensors"
    )
    with pytest.raises(WeightsError, match=r"does not fit ViTForImageClassification: missing classifier\.bias"):
        load_model(f"hf:{hf_folder}", tmp_path / "short.safetensors")


def test_a_file_of_another_model_is_refused(tmp_path):
    pytest.importorskip("timm")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: does not fit VisionTransformer: missing cls_token and \d+ more"):
        load_model("timm:test_vit", tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("timm:test_vitt", "unknown timm model 'test_vitt': did you mean test_vit"),
        ("torchvision:resnet19", "unknown torchvision model 'resnet19': did you mean resnet"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name, match):
    with pytest.raises(UnknownNameError, match=match):
        load_model(name, "none")


def test_weights_that_cannot_be_downloaded_are_reported_in_one_line(monkeypatch):
    timm = pytest.importorskip("timm")

    def offline(*_, **__):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"timm:test_vit: cannot be loaded \(OSError: no route to host\)") as caught:
        load_model("timm:test_vit")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_transformers_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match=r"cannot be loaded .* or a folder with config\.json"):
        load_model(f"hf:{tmp_path}", "none")


def test_a_processor_that_squashes_is_noted_and_its_filter_used(hf_folder, tmp_path):
    shutil.copytree(hf_folder, tmp_path / "model")
    settings = {"size": {"height": 32, "width": 32}, "resample": 2, "image_processor_type": "ViTImageProcessor"}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(settings))
    vision = load_model(f"hf:{tmp_path / 'model'}")
    assert (vision.preprocess.size, vision.preprocess.interpolation) == ((32, 32), "bilinear")
    assert any("resizes the whole picture to its input" in note for note in vision.notes)


def test_the_size_of_the_resize_is_timms():
    timm = pytest.importorskip("timm")
    vision = load_model("timm:mobilenetv3_small_050", "none")
    assert vision.preprocess.resize[0] == 256
    assert load_model("timm:xcit_nano_12_p8_224", "none").preprocess.resize[0] == int(224 / 1.0)
    config = timm.data.resolve_model_data_config(timm.create_model("ghostnet_050"))
    size = timm.data.create_transform(**config).transforms[0].size
    assert load_model("timm:ghostnet_050", "none").preprocess.resize[0] == (size if isinstance(size, int) else size[0])


@pytest.mark.parametrize("name", [":", ":build", "..x:build", "a b:c"])
def test_invalid_names_are_refused(name):
    with pytest.raises(
        ModelError, match=r"wanted the name of a model, package\.module:function or folder/file\.py:function"
    ):
        load_model(name, "none")


@pytest.mark.parametrize("text", ["def net(:\n", "raise ValueError('no')\n"])
def test_a_users_module_that_fails_to_import_is_reported_in_one_line(text, tmp_path, monkeypatch):
    (tmp_path / "failing_nets.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"importing failing_nets fails: (SyntaxError|ValueError)"):
        load_model("failing_nets:net", "none")


@pytest.mark.parametrize("package", ["timm", "torchvision", "transformers"])
def test_the_error_of_a_missing_library_names_the_extra_to_install(package, monkeypatch):
    scheme = {"transformers": "hf"}.get(package, package)
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=r"not installed .*: pip install 'attnviz\[zoo\]'"):
        load_model(f"{scheme}:anything", "none")


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A user's module in the current folder."""
    (tmp_path / "my_nets.py").write_text(
        "import torch\n"
        "def net():\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))\n"
        "def text():\n    return 'no network'\n"
        "def broken():\n    raise KeyError('width')\n"
        "class Nothing(torch.nn.Module):\n    def forward(self, x):\n        return None\n"
        "def nothing():\n    return Nothing()\n"
        "def sized(width, depth=2):\n    return torch.nn.Identity()\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_nets", None)


@pytest.mark.usefixtures("user_module")
@pytest.mark.filterwarnings("ignore:.*guessed :attnviz.errors.GuessWarning")
def test_a_users_function_returns_a_model():
    vision = load_model("my_nets:net", seed=1)
    assert vision.labels == ("class 0", "class 1", "class 2", "class 3")
    assert torch.equal(logits(vision), logits(load_model("my_nets:net", seed=1)))
    assert not torch.equal(logits(vision), logits(load_model("my_nets:net", seed=2)))


@pytest.mark.usefixtures("user_module")
@pytest.mark.filterwarnings("ignore:.*guessed :attnviz.errors.GuessWarning")
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("my_nets:text", "wanted an nn.Module or a VisionModel, the function returned a str"),
        ("my_nets:broken", "the function failed with KeyError: 'width'"),
        ("my_nets:nothing", "no task fits the output, a NoneType"),
        ("my_nets:sized", r"takes the arguments width, wanted none: write a function .* def build\(\): return sized"),
        ("my_nets:number", "wanted a function or class, number is a int"),
        ("no_such_nets:net", "importing no_such_nets fails"),
    ],
)
def test_a_users_function_that_returns_no_model_is_refused(name, match):
    with pytest.raises(ModelError, match=match):
        load_model(name)


def test_importing_the_models_imports_no_library_of_models():
    heavy = ("timm", "torchvision", "transformers", "captum")
    code = f"import sys, attnviz.models; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


def test_a_release_without_undocumented_functions_costs_only_what_they_give(hf_folder, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers, "ImageProcessingMixin", None)
    monkeypatch.delattr(transformers.utils.logging, "is_progress_bar_enabled")
    assert load_model(f"hf:{hf_folder}").preprocess.size == (32, 32)


def test_a_transformers_model_without_a_processor_is_guessed_aloud(hf_folder, tmp_path):
    folder = shutil.copytree(hf_folder, tmp_path / "model", ignore=shutil.ignore_patterns("preprocessor*"))
    with pytest.warns(GuessWarning, match=r"guessed resize, mean and std of the input \(32 × 32 pixels, 3 channels"):
        vision = load_model(f"hf:{folder}")
    assert vision.preprocess.size == (32, 32)
    assert any("Guessed resize, mean and std" in note for note in vision.notes)
