"""Transformers models of other tasks than classification are loaded with their task, names and texts, and explained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import attnviz
from attnviz.errors import ModelError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

VISION = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip


def saved(folder: Path, model: Any, processor: Any) -> str:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return f"hf:{folder}"


def tokenizer(folder: Path) -> int:
    """A tokenizer of single letters, as CLIP's; the size of its vocabulary."""
    letters = "acdogt"
    vocabulary = {letter + end: 2 * n + (end != "") for n, letter in enumerate(letters) for end in ("", "</w>")}
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 16})
    )
    return len(vocabulary)


def clip(folder: Path) -> str:
    words = tokenizer(folder)
    text = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 16, "vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1,
    }  # fmt: skip
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return saved(folder, transformers.CLIPModel(config), processor)


def segformer(folder: Path) -> str:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16, num_attention_heads=[1, 2, 2, 2],
        id2label={0: "ground", 1: "sky", 2: "tree"}, label2id={"ground": 0, "sky": 1, "tree": 2},
    )  # fmt: skip
    processor = transformers.SegformerImageProcessor(size={"height": 64, "width": 96})
    return saved(folder, transformers.SegformerForSemanticSegmentation(config), processor)


def dinov2(folder: Path) -> str:
    torch.manual_seed(0)
    sizes = {"image_size": 56, "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    processor = transformers.BitImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    return saved(folder, transformers.Dinov2Model(transformers.Dinov2Config(**sizes)), processor)


@pytest.fixture
def photo() -> str:
    return "sample_data/chelsea.png"


def test_clip_has_its_texts_as_classes(tmp_path: Path, photo: str) -> None:
    vision = attnviz.load_model(clip(tmp_path / "clip"), texts=["a cat", "a dog"])
    assert vision.task is not None
    assert (vision.task.name, tuple(vision.labels)) == ("zero-shot", ("a cat", "a dog"))
    found = attnviz.explain(photo, vision, "gradcam", target="a dog", contrast="a cat")
    assert found.target.label == "a dog, not a cat"
    assert sum(one.score for one in found.predictions) == pytest.approx(1)
    assert {one.unit for one in found.predictions} == {"probability"}


def test_texts_are_asked_for_or_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"CLIPModel compares images with texts; give one or more with --text"):
        attnviz.load_model(clip(tmp_path / "clip"))
    with pytest.raises(ModelError, match="Dinov2Model takes no texts"):
        attnviz.load_model(dinov2(tmp_path / "dinov2"), texts=["a cat"])
    with pytest.raises(ModelError, match="cbam: takes no texts"):
        attnviz.load_model("cbam", texts=["a cat"])


def test_a_segmentation_shows_its_classes_and_the_region(tmp_path: Path, photo: str) -> None:
    vision = attnviz.load_model(segformer(tmp_path / "segformer"))
    found = attnviz.explain(photo, vision, "gradcam,saliency", target="tree", box=(10, 10, 200, 150))
    assert found.target.label == "tree in the box 10,10,200,150"
    assert found.classes is not None
    assert found.classes.shape == (64, 96)
    assert found.region is not None
    assert 0 < int(found.region.sum()) < 64 * 96
    assert {one.unit for one in found.predictions} == {"share of the image"}
    page = found.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'data-component="classes"' in page
    assert "share of the image" in page


def test_a_model_without_a_head_has_no_class(tmp_path: Path, photo: str) -> None:
    vision = attnviz.load_model(dinov2(tmp_path / "dinov2"))
    found = attnviz.explain(photo, vision, "gradcam")
    assert [one.label for one in found.predictions] == ["norm of the embedding"]
    alike = attnviz.explain(photo, vision, "gradcam", like=photo)
    assert alike.target.unit == "cosine similarity"
    assert alike.target.score == pytest.approx(1, abs=1e-4)
