"""``attnviz explain``: what it prints and writes, and every kind of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from attnviz.report.core.renderers import RENDERERS
from attnviz.report.explanation import json_file

ROOT = Path(__file__).parents[2]


def failed(result, code=1):
    """The one line of a failure that left nothing behind."""
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    if code == 1:
        assert len(lines) == 1, lines
    assert result.stdout == ""
    assert [p for p in Path.cwd().iterdir() if p.is_dir() or p.suffix == ".partial"] == []
    return lines[-1]


class TestWhatItDoes:
    def test_it_prints_predictions_sites_agreement_and_files(self, explain):
        result = explain(methods="saliency,gradcam", formats="html,png,json")
        assert result.exit_code == 0, result.output
        for text in ("rocket.jpg", "tiny", "Attention sites", "spatial", "channel", "Agreement of maps", "Grad-CAM"):
            assert text in result.stdout
        assert [p.name for p in sorted(Path("rocket").iterdir())] == ["explanation.json", "panel.png", "report.html"]
        for name in ("explanation.json", "panel.png", "report.html"):
            assert f"rocket/{name}" in result.stdout

    def test_the_report_holds_what_was_requested(self, explain):
        explain("--target", "espresso", "--sites", "spatial", "--out", "o", "--seed", "7")
        document = json_file.load("o/explanation.json")
        assert document.target.label == "espresso"
        assert [site.kind for site in document.sites] == ["spatial"]
        assert [view.name for view in document.maps] == ["(root)#1", "saliency"]
        assert document.settings["seed"] == 7
        assert "1 of 2 attention sites are shown." in document.notes

    @pytest.mark.parametrize("target", ["4", "Espresso"])
    def test_a_target_is_an_index_or_a_name(self, explain, target):
        explain("--target", target, "--out", "o")
        assert json_file.load("o/explanation.json").target.index == 4

    def test_quiet_prints_nothing(self, explain):
        result = explain("--quiet")
        assert (result.exit_code, result.output) == (0, "")
        assert Path("rocket/explanation.json").exists()

    def test_verbose_prints_every_pair_and_where_the_time_went(self, explain):
        result = explain("--verbose", methods="saliency,gradcam")
        assert "Saliency · Grad-CAM" in result.stdout
        assert "time: " in result.stdout
        assert "attribute by gradcam" in result.stdout

    def test_json_is_the_only_output(self, explain):
        result = explain("--json")
        summary = json.loads(result.stdout)
        assert summary["schema"] == "attnviz.explanation"
        assert summary["files"] == ["rocket/explanation.json"]
        assert summary["predictions"][0]["label"] == summary["target"]["label"]
        assert "base64" not in result.stdout

    def test_several_images_get_a_folder_each(self, run, photo, tmp_path):
        other = str(ROOT / "sample_data" / "coffee.png")
        copy = str(shutil.copy(photo, tmp_path / Path(photo).name))
        result = run("explain", photo, other, copy, "--model", "tiny_model:build", "--methods", "saliency",
                     "--format", "json", "--out", "all", "--json")  # fmt: skip
        assert result.exit_code == 0, result.output
        assert [p.name for p in sorted(Path("all").iterdir())] == ["coffee", "rocket", "rocket-2"]
        assert [one["image"] for one in json.loads(result.stdout)] == [photo, other, copy]

    def test_the_same_seed_gives_the_same_report(self, explain):
        for out in ("a", "b"):
            explain("--out", out, methods="smoothgrad")
        assert Path("a/explanation.json").read_bytes() == Path("b/explanation.json").read_bytes()

    def test_a_default_method_that_does_not_apply_is_left_out_with_a_note(self, run, photo):
        words = ("explain", photo, "--model", "tiny_model:tokens", "--format", "json", "--out", "o")
        result = run(*words)
        assert result.exit_code == 0, result.output
        assert "note: Left out, since it does not apply: gradcam: " in result.stdout
        settings = json_file.load("o/explanation.json").settings
        assert settings["methods"] == ["saliency", "integrated_gradients", "smoothgrad"]
        assert settings["model"] == "tiny_model:tokens"

    def test_a_requested_method_that_does_not_apply_is_an_error(self, explain):
        message = failed(explain(model="tiny_model:tokens", methods="saliency,gradcam"))
        assert message.startswith("Error: gradcam: the last features with positions are stem's")

    def test_a_model_without_attention_is_said_so(self, explain):
        result = explain(model="tiny_model:plain")
        assert result.exit_code == 0
        assert "This model has no attention: all maps are attributions." in result.stdout


class TestGoodButOddImages:
    """Each of these is a photograph all the same."""

    def make(self, kind: str) -> str:
        rng = np.random.default_rng(0)
        rgb = Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8))
        path = f"{kind}.{'gif' if kind == 'animated' else 'jpg' if kind in {'cmyk', 'rotated'} else 'png'}"
        if kind == "animated":
            rgb.save(path, save_all=True, append_images=[rgb.rotate(90)])
        elif kind == "deep":
            Image.fromarray(rng.integers(0, 65536, (50, 70), np.uint16)).save(path)
        elif kind == "rotated":
            exif = Image.Exif()
            exif[0x0112] = 6
            rgb.save(path, exif=exif)
        elif kind == "single":
            rgb.crop((0, 0, 1, 1)).save(path)
        else:
            rgb.convert({"grey": "L", "rgba": "RGBA", "cmyk": "CMYK", "palette": "P"}[kind]).save(path)
        return path

    @pytest.mark.parametrize("kind", ["animated", "deep", "grey", "rgba", "cmyk", "rotated", "single", "palette"])
    def test_it_is_explained(self, explain, kind):
        result = explain(image=self.make(kind))
        assert result.exit_code == 0, result.output
        document = json_file.load(f"{kind}/explanation.json")
        assert document.pixels.shape == (32, 32, 3)
        assert document.settings["image_size"] == {"single": [1, 1], "rotated": [70, 50]}.get(kind, [50, 70])
        if kind == "animated":
            assert "animation: the first of 2 frames is explained" in result.stdout

    def test_a_hostile_name_is_only_text(self, explain):
        name = "<b>$x_2$&[red]'.png"
        Image.new("RGB", (40, 40)).save(name)
        result = explain(image=name, formats="html,png,json")
        assert result.exit_code == 0, result.output
        assert "<b>$x_2$&[red]'.png" in result.stdout
        folder = Path(name).stem
        assert "<b>$x" not in Path(folder, "report.html").read_text()


class TestBadImages:
    def test_missing(self, explain):
        assert failed(explain(image="nowhere.png")) == "Error: nowhere.png: no such file or folder"

    def test_empty(self, explain):
        Path("e.png").touch()
        assert failed(explain(image="e.png")) == "Error: e.png: the file is empty"

    def test_truncated(self, explain, photo):
        Path("t.jpg").write_bytes(Path(photo).read_bytes()[:40_000])
        assert failed(explain(image="t.jpg")).startswith("Error: t.jpg: damaged or truncated: ")

    def test_not_an_image(self, explain):
        Path("n.png").write_text("hello")
        assert failed(explain(image="n.png")).startswith("Error: n.png: not an image that can be read (wanted PNG,")

    def test_a_bad_one_among_good_ones_is_an_error_before_any_work(self, run, photo):
        Path("n.png").write_text("hello")
        result = run("explain", photo, "n.png", "--model", "tiny_model:build", "--out", "o")
        assert "n.png: not an image" in failed(result)

    def test_none_at_all_is_a_usage_error(self, run):
        assert "Missing argument 'IMAGE...'" in failed(run("explain"), 2)


class TestBadWords:
    def test_unknown_model(self, explain):
        assert failed(explain(model="cbma")) == "Error: unknown model 'cbma': did you mean cbam?"

    def test_unknown_method(self, explain):
        message = failed(explain(methods="gradcma"))
        assert message == "Error: unknown attribution method 'gradcma': did you mean gradcam or xgradcam or gradcam++?"

    def test_a_bad_method_is_an_error_before_a_model_is_loaded(self, explain):
        assert "unknown attribution method 'gradcma'" in failed(
            explain(model="tiny_model:interrupted", methods="gradcma")
        )

    def test_unknown_site(self, explain):
        message = failed(explain("--sites", "layer4.*"))
        assert message == "Error: unknown attention site 'layer4.*': known are (root), (root)#1"

    def test_unknown_class(self, explain):
        assert failed(explain("--target", "tiger cta")) == "Error: unknown class 'tiger cta': did you mean tiger cat?"

    def test_a_class_that_the_model_does_not_have(self, explain):
        assert failed(explain("--target", "5")) == "Error: class 5: the model has 5 classes, 0 to 4"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--format", "html,pdf"), "'pdf' is not one of html, png, json"),
            (("--methods", ","), "wanted at least one name"),
            (("--sites", ","), "wanted at least one name"),
            (("--weights", ""), "Invalid value for '--weights': wanted default, none or a file"),
            (("--seed", "x"), "'x' is not a valid integer"),
            (("--seed", "-1"), "-1 is not in the range"),
            (("--quiet", "--verbose"), "--quiet and --verbose exclude each other"),
        ],
    )
    def test_wrong_usage(self, run, photo, words, message):
        assert message in failed(run("explain", photo, *words), 2)


class TestDevices:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_a_device_that_is_not_there(self, explain):
        assert failed(explain("--device", "cuda")) == "Error: device 'cuda' is not there: this machine has cpu"

    def test_a_device_that_does_not_exist(self, explain):
        assert failed(explain("--device", "abacus")) == "Error: unknown device 'abacus': wanted auto, cpu, cuda or mps"


class TestWeights:
    @pytest.mark.parametrize("content", [b"", b"not weights at all", bytes(64)])
    def test_damaged(self, explain, content):
        Path("w.safetensors").write_bytes(content)
        assert "w.safetensors" in failed(explain("--weights", "w.safetensors", model="senet"))

    def test_of_another_model(self, explain):
        save_file({"a": torch.zeros(2)}, "w.safetensors")
        assert "w.safetensors" in failed(explain("--weights", "w.safetensors", model="senet"))

    def test_missing(self, explain):
        assert "w.safetensors" in failed(explain("--weights", "w.safetensors", model="senet"))


class TestOutput:
    def test_an_earlier_report_is_only_overwritten_with_the_option(self, explain):
        assert explain("--out", "o").exit_code == 0
        before = Path("o/explanation.json").stat().st_mtime_ns
        result = explain("--out", "o")
        assert result.exit_code == 1
        assert result.stderr == "Error: o: holds explanation.json already; --overwrite replaces it\n"
        assert Path("o/explanation.json").stat().st_mtime_ns == before
        assert explain("--out", "o", "--overwrite").exit_code == 0
        assert Path("o/explanation.json").stat().st_mtime_ns > before

    def test_a_file_in_the_way(self, explain):
        Path("o").touch()
        assert failed(explain("--out", "o")) == "Error: o: is a file, wanted a folder for the report"

    def test_a_name_that_is_too_long(self, explain):
        wanted = "a: cannot be a folder for the report: File name too long"
        assert failed(explain("--out", 300 * "a")).endswith(wanted)

    def test_a_folder_that_cannot_be_written(self, explain):
        assert "/proc/attnviz: cannot be made" in failed(explain("--out", "/proc/attnviz/o"))


class TestInterruption:
    def test_ctrl_c_exits_with_130_and_leaves_nothing(self, explain):
        result = explain("--out", "deep/o", model="tiny_model:interrupted")
        assert failed(result, 130) == "Interrupted: no partial output remains."

    def test_ctrl_c_while_the_report_is_written_leaves_nothing(self, explain, monkeypatch):
        def interrupt(*_args):
            raise KeyboardInterrupt

        monkeypatch.setitem(RENDERERS._entries, "png", interrupt)
        failed(explain("--out", "deep/o", formats="html,png"), 130)

    def test_a_real_signal(self, tmp_path, photo):
        """The signal arrives while a child process is at work."""
        code = (
            "import attnviz.explanation.explain as e, os, signal, sys\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent in the background ignores it
            "def stop(*a, **k): os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(60)\n"
            "e.decode = stop; import attnviz.media.image_decoding as d; d.decode = stop\n"
            f"sys.argv = ['attnviz', 'explain', {photo!r}]\n"
            "from attnviz.cli.main import main; main()\n"
        )
        result = subprocess.run(  # noqa: S603  # our own words
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert result.returncode == 130 == 128 + signal.SIGINT
        assert "Traceback" not in result.stderr
        assert list(tmp_path.iterdir()) == []
