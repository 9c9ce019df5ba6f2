"""Properties of every registered model."""

import math
import pickle

import pytest
import torch

from attnviz.core.records import Kind
from attnviz.errors import UnknownNameError, WeightsError
from attnviz.models import MODELS, attend, load_model
from attnviz.models.builtin import is_shipped, shipped_weights
from attnviz.models.card import card_path, read_card
from attnviz.models.mechanism import LATE_BLOCKS
from attnviz.models.trunk import EfficientNetLite0, pretrained_trunk
from attnviz.models.weights_file import read_weights
from attnviz.tracing import find_attention

ATTENDING = [name for name in MODELS if MODELS[name].attends]
SHIPPED = [name for name in MODELS if is_shipped(name)]
TRAINED = [name for name in SHIPPED if MODELS[name].attends]


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def inputs_of(name, images):
    """Input of a model: images, or a clip for each image."""
    frames = MODELS[name].frames
    return images if frames is None else images[:, None] * torch.linspace(0.2, 1, 2)[:, None, None, None]


@pytest.fixture(scope="module")
def shipped():
    return {name: load_model(name, "default" if name in SHIPPED else "none") for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_it_maps_images_to_a_thousand_logits_independently(name, shipped, images):
    module = shipped[name].module
    x = inputs_of(name, images)
    logits = module(x)
    assert logits.shape == (3, 1000)
    torch.testing.assert_close(module(x[1:2]), logits[1:2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_it_has_a_preprocessing_and_class_names(name, shipped):
    vision = shipped[name]
    assert vision.name == name
    assert (vision.preprocess.size, vision.preprocess.resize) == ((224, 224), (256, 256))
    assert len(vision.labels) == 1000
    assert vision.class_index("tabby cat") == 281
    assert not vision.module.training


@pytest.mark.parametrize("name", MODELS)
def test_it_can_be_pickled(name, shipped, images):
    again = pickle.loads(pickle.dumps(shipped[name].module))
    with torch.no_grad():
        x = inputs_of(name, images)[:1]
        assert torch.equal(again(x), shipped[name].module(x))


@pytest.mark.parametrize("name", ATTENDING)
def test_its_attention_is_what_the_trunk_does_not_have(name):
    trunk = set(EfficientNetLite0().state_dict())
    attended = attend(name, EfficientNetLite0())
    assert attended.attention
    tensors = set(attended.network.state_dict())
    assert {key.removeprefix("trunk.") for key in tensors - set(attended.attention)} == trunk
    assert not trunk & {key.removeprefix("trunk.") for key in attended.attention}


@pytest.mark.parametrize("name", ATTENDING)
def test_its_features_before_the_first_site_are_the_bare_trunks(name, images):
    attended = attend(name, pretrained_trunk())
    x = inputs_of(name, images)[:1]
    with torch.no_grad():
        features = pretrained_trunk().before(x.flatten(0, -4), attended.first_stage)
        if MODELS[name].frames:
            features = features[None]
        torch.testing.assert_close(attended.from_features(features), attended.network(x), atol=1e-4, rtol=1e-4)


LATE_SITES = [f"blocks.{stage}.{position}.attention" for stage, position in LATE_BLOCKS]
SIX_SITES = [f"blocks.{block}.attention" for block in ("3.2", "4.0", "4.1", "4.2", "5.1", "5.3")]
SITES = {
    "senet": dict.fromkeys(LATE_SITES, Kind.CHANNEL),
    "eca": dict.fromkeys(LATE_SITES, Kind.CHANNEL),
    "cbam": {f"{site}.{gate.value}": gate for site in LATE_SITES for gate in (Kind.CHANNEL, Kind.SPATIAL)},
    "nonlocal": {f"blocks.{block}.attention": Kind.PAIRWISE for block in ("3.2", "4.0", "4.2", "5.0", "5.2")},
    "vit": {"encoder.0.attention": Kind.PAIRWISE, "encoder.1.attention": Kind.PAIRWISE},
    "pvt": {f"blocks.{block}.attention.attention": Kind.PAIRWISE for block in ("3.2", "4.2", "5.3")},
    "van": {
        **{f"blocks.{block}.attention.lka": Kind.DENSE for block in ("3.2", "4.2", "5.3")},
        **{f"blocks.{block}.attention": Kind.DENSE for block in ("4.0", "4.1", "5.1")},
    },
    "stn": {"(root)": Kind.POOLING, "(root)#1": Kind.SAMPLING},  # the mean position of the window, and the window
    "dcn": dict.fromkeys(SIX_SITES, Kind.SAMPLING),
    "sknet": dict.fromkeys(LATE_SITES, Kind.BRANCH),
    "temporal": {"attention": Kind.TEMPORAL},
}


@pytest.mark.parametrize("name", ATTENDING)
def test_exactly_its_attention_sites_are_found(name, shipped, images):
    sites = find_attention(shipped[name].module, inputs_of(name, images)[:1])
    assert {site.name: site.kind for site in sites} == SITES[name]


def test_the_control_has_no_attention(shipped, images):
    assert find_attention(shipped["none"].module, images[:1]) == []


@pytest.mark.parametrize("name", ATTENDING)
def test_the_error_for_missing_weights_names_the_command_to_train(name, monkeypatch, tmp_path):
    monkeypatch.setattr("attnviz.models.builtin.shipped_weights", lambda name: tmp_path / f"{name}.safetensors")
    with pytest.raises(
        WeightsError, match=rf"no trained weights of '{name}' are shipped: attnviz train {name} --data FOLDER"
    ):
        load_model(name)


@pytest.mark.parametrize("name", TRAINED)
def test_its_shipped_weights_are_only_its_attention_and_small(name):
    weights = read_weights(shipped_weights(name))
    assert set(weights) == set(attend(name, EfficientNetLite0()).attention)
    assert shipped_weights(name).stat().st_size < 3_000_000


@pytest.mark.parametrize("name", SHIPPED)
def test_its_card_holds_every_figure_with_its_interval_and_count(name):
    card = read_card(name)
    assert card is not None
    for figure in ("kl", "top1", "top5", "chance", "plain"):
        interval = card.figures[figure]
        assert interval["n"] >= 40
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert card.value("parameters") == sum(p.numel() for p in attend(name, EfficientNetLite0()).parameters())
    if card.figures["map_of"]:
        assert card.figures["map_of"] in card.figures["maps"]
    assert card.made["command"].startswith(f"python builtin_training/train.py {name} ")
    assert card.made["versions"]["torch"]
    text = card_path(name).with_suffix(".md").read_text()
    assert (f"{card.value('pointing'):.2f}" if card.figures["map_of"] else "| – | – to – | 0 |") in text
    assert card.made["command"] in text


def test_cbams_card_supports_the_claims_of_the_documentation():
    cbam, none = read_card("cbam"), read_card("none")
    assert cbam.figures["pointing"]["low"] > 4 * cbam.value("chance")
    assert cbam.figures["kl"]["high"] < none.figures["kl"]["low"]
    for figure in ("top1", "top5", "pointing"):
        assert cbam.value(figure) > none.value(
            figure
        )  # paired intervals: python builtin_training/evaluate.py cbam none
    assert cbam.value("plain") >= 0.85


def test_the_shipped_cbam_classifies_the_sample_photographs():
    data = pytest.importorskip("skimage.data")
    vision = load_model("cbam")
    expected = {
        "chelsea": {"tiger cat", "tabby cat", "Egyptian cat"},
        "coffee": {"espresso"},
        "rocket": {"missile", "projectile"},
    }
    for picture, labels in expected.items():
        with torch.no_grad():
            best = int(vision.module(vision.preprocess(getattr(data, picture)())[None]).argmax())
        assert vision.labels[best] in labels


def test_an_unknown_model_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"unknown model 'cbam2': did you mean cbam\?"):
        load_model("cbam2")


@pytest.mark.parametrize("name", MODELS)
def test_random_weights_depend_only_on_the_seed_and_leave_the_generator_unchanged(name, images):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (load_model(name, "none", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.no_grad():
        logits = [vision.module(inputs_of(name, images)[:1]) for vision in (one, same, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    assert "random" in one.notes[0]


def test_damaged_weights_are_reported_in_one_line(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(shipped_weights("cbam").read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"bad\.safetensors: damaged, or not a weights file") as caught:
        load_model("cbam", path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_mechanism_do_not_fit():
    path = shipped_weights("senet")
    with pytest.raises(WeightsError, match=r"senet\.safetensors: does not fit EfficientNetLite0: missing blocks\.3"):
        load_model("cbam", path)


def test_missing_weights_are_reported():
    with pytest.raises(WeightsError, match=r"nowhere\.pth: no such weights file"):
        load_model("cbam", "nowhere.pth")


def test_the_control_refuses_weights():
    with pytest.raises(WeightsError, match="'none' has no attention, so no weights of its own"):
        load_model("none", shipped_weights("cbam"))


def test_a_file_that_would_execute_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("code in a weights file ran",))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match=r"trap\.pth: wanted named tensors, got state_dict"):
        load_model("cbam", tmp_path / "trap.pth")


def test_a_missing_card_is_none_and_a_damaged_one_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("attnviz.models.card.card_path", lambda name: tmp_path / f"{name}.json")
    assert read_card("cbam") is None
    (tmp_path / "cbam.json").write_text('{"model": "cbam"}')
    with pytest.raises(WeightsError, match="damaged model card"):
        read_card("cbam")
    (tmp_path / "cbam.json").write_text('{"model": "cbam", "figures": {"kl": {"value": null}}, "made": {}}')
    assert math.isnan(read_card("cbam").value("kl"))
