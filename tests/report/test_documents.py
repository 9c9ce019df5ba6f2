"""Documents, the JSON file, the page as text, the figure and the folder."""

import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.attribution import METHODS
from attnviz.core.records import Heatmap
from attnviz.errors import DataError, OutputError, ReconstructionError, UnknownNameError
from attnviz.media.atomic_files import make_parents, write_files
from attnviz.report import FILE_NAMES, describe
from attnviz.report.core import glossary
from attnviz.report.core.colours import coloured, levels, lookup, overlay
from attnviz.report.core.document import channel_gates
from attnviz.report.core.formatting import number
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.core.viewer_data import scale_of, views_of
from attnviz.report.explanation import figure, html, json_file
from attnviz.report.explanation.figure_layout import bands_of, chosen
from attnviz.report.explanation.folder import check_folder, folders_for, write_folder


def view(values, kind="attention"):
    values = np.asarray(values, np.float32)
    low, high, signed, clipped = colour_range(values, kind=kind)
    return MapView("m", kind, "gate", "m", values, low, high, signed, clipped)


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def document(explanation):
    return describe(explanation)


class TestDocument:
    def test_attention_comes_before_attribution(self, explanation):
        reversed_maps = replace(explanation, heatmaps=explanation.heatmaps[::-1])
        kinds = [one.kind for one in describe(reversed_maps).maps]
        assert kinds == ["attention"] * 6 + ["attribution"] * 4

    def test_values_are_kept_as_measured(self, explanation, document):
        by_name = {heatmap.name: heatmap for heatmap in explanation.heatmaps}
        for one in document.maps:
            assert np.array_equal(one.values, by_name[one.name].values[0].numpy())

    def test_a_site_tells_the_facts_of_its_g(self, explanation, document):
        record, site = explanation.records[1], document.sites[1]
        assert site.shape == (1, 14, 14)
        assert site.kind == "spatial"
        assert (site.low, site.high) == (float(record.g.min()), float(record.g.max()))
        assert site.error == 0
        assert site.where == "cbam.py:41"
        assert np.array_equal(site.g, record.g[0].numpy())

    def test_a_record_that_does_not_reconstruct_is_an_error_and_never_a_picture(self, explanation):
        wrong = replace(explanation.records[0], y=explanation.records[0].y * 1.01)
        with pytest.raises(ReconstructionError, match=r"blocks\.3\.cbam\.channel: f\(g, x\) differs"):
            describe(replace(explanation, records=(wrong,)))

    def test_scores_are_told_apart_by_what_they_were_measured_on(self, document):
        between, sites = document.measures_between_maps(), document.measures_of_sites()
        assert list(between) == ["spearman", "ssim", "topk_iou"]
        assert len(between["ssim"]) == 10 * 9
        assert between["ssim"]["gradcam", "saliency"] is between["ssim"]["saliency", "gradcam"]
        assert list(sites) == ["hoyer", "gini", "normalised_entropy", "near_zero_share"]
        assert len(sites["gini"]) == 6 * 3

    def test_only_channel_gates_have_bars(self, document):
        assert [site.kind for site in channel_gates(document)] == ["channel"] * 3


class TestColours:
    def test_attention_spans_its_values_and_an_attribution_is_clipped(self):
        values = np.concatenate([np.linspace(0, 1, 999), [1000.0]])[None]
        assert colour_range(values, kind="attention") == (0, 1000, False, False)
        low, high, signed, clipped = colour_range(values, kind="attribution")
        assert (low, signed, clipped) == (0, False, True)
        assert 0.98 < high < 1.01

    def test_rounding_errors_below_0_do_not_make_a_map_signed(self):
        assert colour_range(np.array([[-1e-9, 1.0]]), kind="attribution")[2] is False
        assert colour_range(np.array([[-0.1, 1.0]]), kind="attribution")[2] is True

    @pytest.mark.parametrize(
        "values", [np.full((2, 2), np.nan), np.zeros((2, 2)), np.full((2, 2), 0.7), -np.ones((2, 2))]
    )
    @pytest.mark.parametrize("kind", ["attention", "attribution"])
    def test_flat_and_undefined_maps_have_colours(self, values, kind):
        assert levels(view(values, kind)).shape == (2, 2)
        assert coloured(view(values, kind), 8).shape == (8, 8, 3)

    def test_the_scale_ends_at_the_ends(self):
        steps = levels(view([[0.25, 0.5], [0.75, 0.5]]))
        assert steps.tolist() == [[0, 128], [255, 128]]
        assert levels(view([[-1.0, 2.0]])).tolist() == [[64, 255]]

    def test_a_scale_is_perceptually_uniform(self):
        """Lightness rises evenly: no step is a tenth of, or ten times, another."""
        import cv2

        for kind in ("attention", "attribution"):
            lab = cv2.cvtColor(lookup(view([[0.0, 1.0]], kind))[None], cv2.COLOR_RGB2LAB)[0].astype(float)
            lightness = lab[::16, 0]
            steps = np.diff(lightness)
            assert steps.min() > 0
            assert steps.max() / steps.min() < 4

    def test_an_overlay_mixes_picture_and_colours(self):
        picture = np.full((4, 4, 3), 100, np.uint8)
        one = view([[0.0, 1.0], [0.0, 1.0]])
        assert np.array_equal(overlay(picture, one, 0.0), picture)
        assert np.array_equal(overlay(picture, one, 1.0), coloured(one, 4))
        half = overlay(picture, one, 0.5).astype(int)
        assert np.abs(half - (coloured(one, 4).astype(int) + 100) / 2).max() <= 1

    def test_an_overlay_of_a_signed_map_is_grey_where_the_map_is_0(self):
        picture = np.full((3, 3, 3), (90, 100, 110), np.uint8)
        laid = overlay(picture, view([[-1.0, 0.0, 1.0]] * 3), 0.6).astype(int)
        assert np.ptp(laid[0, 1]) < 12
        assert laid[0, 0, 2] > laid[0, 0, 0] + 50  # negative is blue
        assert laid[0, 2, 0] > laid[0, 2, 2] + 50  # positive is red


class TestArchive:
    def test_everything_comes_back(self, document, tmp_path):
        json_file.write(document, tmp_path / "e.json")
        back = json_file.load(tmp_path / "e.json")
        assert html.render(back) == html.render(document)
        assert np.array_equal(back.pixels, document.pixels)
        for ours, theirs in zip(document.maps, back.maps, strict=True):
            assert ours.values.dtype == theirs.values.dtype == np.float32
            assert np.array_equal(ours.values, theirs.values)
        assert [s for s in back.scores if not math.isnan(s.value)] == [
            s for s in document.scores if not math.isnan(s.value)
        ]
        assert math.isnan(back.scores[0].value)
        assert back.scores[0].why == "a constant map"

    def test_the_file_is_strict_json_and_says_its_version(self, document, tmp_path):
        json_file.write(document, tmp_path / "e.json")

        def refuse(name):
            raise AssertionError(f"{name} is not JSON")

        data = json.loads((tmp_path / "e.json").read_text(), parse_constant=refuse)
        assert (data["schema"], data["version"]) == ("attnviz.explanation", 1)
        array = data["maps"][0]["values"]
        values = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"]).reshape(array["shape"])
        assert np.array_equal(values, document.maps[0].values)

    def test_a_summary_has_no_arrays(self, document):
        text = json.dumps(json_file.dump(document, arrays=False))
        assert "base64" not in text
        assert len(text) < 100_000

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "cannot be read as an explanation"),
            ("[]", "wanted schema attnviz.explanation version 1, got None version None"),
            ('{"schema": "attnviz.explanation", "version": 2}', "got attnviz.explanation version 2"),
            ('{"schema": "attnviz.explanation", "version": 1}', "a damaged explanation: KeyError: 'image'"),
        ],
    )
    def test_another_file_is_refused(self, tmp_path, content, message):
        (tmp_path / "e.json").write_text(content)
        with pytest.raises(DataError, match=message):
            json_file.load(tmp_path / "e.json")

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"e\.json: cannot be read"):
            json_file.load(tmp_path / "e.json")


class Audit(HTMLParser):
    """What a page refers to and which of its parts have names."""

    def __init__(self):
        super().__init__()
        self.addresses, self.ids, self.labels, self.tags, self.nameless = [], set(), set(), [], []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        self.tags.append(tag)
        self.addresses += [facts[key] for key in ("src", "href", "action", "data") if facts.get(key)]
        self.ids.add(facts.get("id"))
        self.labels.add(facts.get("for"))
        if tag == "img" and "alt" not in facts:
            self.nameless.append(facts)


class TestPage:
    def test_it_refers_to_nothing_outside_itself(self, document):
        text = html.render(document)
        audit = Audit()
        audit.feed(text)
        assert audit.addresses
        assert all(address.startswith(("data:", "#")) for address in audit.addresses)
        assert not re.findall(r"url\((?!data:)|@import|https?://(?!www\.w3\.org)", text)
        assert "default-src 'none'" in text

    def test_every_picture_and_control_has_a_name(self, document):
        audit = Audit()
        audit.feed(html.render(document))
        assert not audit.nameless
        assert "opacity" in audit.ids
        assert "opacity" in audit.labels
        assert audit.tags.count("main") == audit.tags.count("h1") == 1

    def test_a_file_name_that_is_html_is_only_text(self, hostile):
        text = html.render(describe(hostile))
        assert "<img src=x" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in text

    def test_it_says_what_each_number_means_and_does_not_mean(self, document):
        text = html.render(document)
        for title in (
            "Spearman correlation",
            "SSIM",
            "Overlap of the top 20 %",
            "Hoyer",
            "Gini",
            "Entropy",
            "Near zero",
        ):
            assert re.search(
                rf"<dt>{title}</dt><dd>.+?</dd><dd class=\"muted\"><span class=\"not\">Not:</span> .", text
            )

    def test_it_shows_every_map_every_site_every_note_and_the_target(self, document):
        text = html.render(document)
        assert text.count("data-map=") == len(document.maps)
        data = json.loads(re.search(r'<script type="application/json" id="data">(.+?)</script>', text)[1])
        assert [view["name"] for view in data["views"]] == [view.name for view in document.maps]
        assert "tiger cat <small>p = 0.39</small>" in text
        assert document.notes[0] in text
        for site in document.sites:
            assert site.name.replace(".", ".<wbr>") in text

    def test_the_command_makes_the_same_report_again(self, document):
        assert html._command(document) == (
            "attnviz explain sample_data/chelsea.png --model cbam --target 282 --weights default --sites '*' --seed 0 "
            "--methods gradcam,saliency,integrated_gradients,smoothgrad"
        )

    @pytest.mark.parametrize(
        "change",
        [{"image": ""}, {"settings": {"methods": ["saliency"]}}, {"settings": {"model": "cbam", "methods": []}}],
    )
    def test_without_such_a_command_none_is_shown(self, document, change):
        other = replace(document, **change)
        assert html._command(other) == ""
        assert "Command that makes this report again" not in html.render(other)
        assert "Command that makes this report again" in html.render(document)

    def test_a_gate_between_0_and_1_says_how_much_of_that_its_colours_span(self, document):
        view, site = document.maps[1], document.sites[1]
        assert (view.name, site.squash, site.kind) == (site.name, "sigmoid", "spatial")
        wanted = f"spatial gate; the colours span {number(view.low)} to {number(view.high)} of its 0 to 1"
        assert views_of(document)[1]["subtitle"] == wanted
        headers = [header for header, _ in bands_of(document)]
        assert [" between 0 and 1, each colour scale" in header for header in headers] == [False, False, True]
        unbounded = replace(document, sites=tuple(replace(one, squash=None) for one in document.sites))
        assert views_of(unbounded)[1]["subtitle"] == "spatial gate"

    def test_a_step_of_a_scale_becomes_a_number_again(self, document):
        scale = scale_of(view([[-1.0, 2.0]]))
        assert (scale["from"], scale["to"], scale["signed"], scale["clipped"]) == (-2.0, 2.0, True, False)
        assert scale["palette"] == "vlag"
        assert (scale["low"], scale["middle"], scale["high"]) == ("−2", "0", "2")

    def test_an_explanation_without_attention_or_attribution_has_a_page(self, explanation):
        bare = replace(explanation, records=(), heatmaps=(), scores=(), notes=(), settings={})
        text = html.render(describe(bare))
        assert "tiger cat" in text
        assert "Map of" not in text.split("<script")[0]

    def test_a_measure_that_nobody_described_speaks_for_itself(self, explanation):
        odd = replace(explanation.scores[1], measure="my_measure", higher_is="odder")
        text = html.render(describe(replace(explanation, scores=(odd,))))
        assert "Higher is odder." in text


class TestPanel:
    def test_it_is_as_wide_as_a_page_and_tiles_are_square(self, document, tmp_path):
        figure.write(document, tmp_path / "p.png")
        width, height = size_of(tmp_path / "p.png")
        assert width == round(figure.WIDTH_IN * figure.DPI)
        assert 0.8 * width < height < 1.6 * width
        drawn = figure.draw(document)
        tiles = [axis for axis in drawn.axes if axis.images and not axis.axison]
        assert len(tiles) == 1 + len(document.maps)
        for tile in tiles:
            box = tile.get_window_extent()
            assert abs(box.width - box.height) < 1

    def test_no_text_leaves_the_figure(self, document):
        drawn = figure.draw(document)
        boxes = [axis.get_tightbbox() for axis in drawn.axes] + [text.get_window_extent() for text in drawn.texts]
        assert len(boxes) > 20
        for box in boxes:
            assert box.x0 >= drawn.bbox.x0 - 1
            assert box.x1 <= drawn.bbox.x1 + 1
            assert box.y0 >= figure.bbox.y0 - 1
            assert box.y1 <= figure.bbox.y1 + 1

    def test_it_leaves_matplotlib_as_it_was(self, document):
        import matplotlib as mpl

        before = dict(mpl.rcParams)
        figure.draw(document)
        assert dict(mpl.rcParams) == before

    def test_many_maps_are_thinned_evenly(self, document):
        many = tuple(replace(document.maps[0], name=f"block.{i}") for i in range(60))
        names = [one.name for one in chosen(many)]
        assert len(names) == 16
        assert (names[0], names[-1]) == ("block.0", "block.59")

    def test_one_map_and_dollar_signs_are_no_trouble(self, explanation, tmp_path):
        one = replace(
            explanation, image="$x^{2$.png", heatmaps=(Heatmap(torch.zeros(1, 4, 4), "gradcam", "l", "attribution"),),
            records=(), scores=(), photo=None,
        )  # fmt: skip
        figure.write(describe(one), tmp_path / "p.png")
        assert size_of(tmp_path / "p.png")[0] > 1000


class TestSaving:
    @pytest.mark.parametrize("name", [name for name in FILE_NAMES.values() if name != "overlay.gif"])
    def test_an_explanation_saves_itself(self, explanation, tmp_path, name):
        path = explanation.save(tmp_path / name)
        assert path.stat().st_size > 10_000
        assert [p.name for p in tmp_path.iterdir()] == [name]

    def test_an_unknown_format_is_named(self, explanation, tmp_path):
        with pytest.raises(UnknownNameError, match="unknown report format 'pdf': known are gif, html, json, png"):
            explanation.save(tmp_path / "r.pdf")

    def test_an_ending_is_taken_in_any_case(self, explanation, tmp_path):
        assert explanation.save(tmp_path / "E.JSON").read_text().startswith("{")

    def test_a_file_in_place_of_its_folder_is_named(self, explanation, tmp_path):
        (tmp_path / "f").touch()
        with pytest.raises(OutputError, match=r"f/r\.json: cannot be written: Not a directory"):
            explanation.save(tmp_path / "f" / "r.json")

    def test_a_folder_that_is_not_there_is_named(self, explanation, tmp_path):
        with pytest.raises(OutputError, match=r"nowhere/r\.json: cannot be written: No such file"):
            explanation.save(tmp_path / "nowhere" / "r.json")


class TestFolder:
    def test_all_files_are_written_and_nothing_else(self, document, tmp_path):
        files = write_folder(document, tmp_path / "a" / "b", ("json", "html"))
        assert [p.name for p in files] == ["explanation.json", "report.html"]
        assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["explanation.json", "report.html"]
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]

    def test_an_earlier_report_stays_unless_told_otherwise(self, document, tmp_path):
        write_folder(document, tmp_path, ("json",))
        (tmp_path / "mine.txt").write_text("keep")
        with pytest.raises(OutputError, match=r"holds explanation\.json already; --overwrite replaces it"):
            write_folder(document, tmp_path, ("json", "html"))
        before = (tmp_path / "explanation.json").stat().st_mtime_ns
        write_folder(document, tmp_path, ("json", "html"), overwrite=True)
        assert (tmp_path / "explanation.json").stat().st_mtime_ns > before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["explanation.json", "mine.txt", "report.html"]

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
    def test_an_interruption_leaves_nothing_half_written(self, document, tmp_path, monkeypatch, failure):
        def fail(*_args):
            raise failure

        monkeypatch.setattr("attnviz.report.explanation.html.write", fail)
        wanted = KeyboardInterrupt if failure is KeyboardInterrupt else OutputError
        with pytest.raises(wanted, match="^$" if failure is KeyboardInterrupt else "No space left"):
            write_folder(document, tmp_path / "new" / "deep", ("json", "html"))
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_looked_into_is_named(self, tmp_path, monkeypatch):
        def refuse(_path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "exists", refuse)
        with pytest.raises(OutputError, match="o: cannot be a folder for the report: Permission denied"):
            check_folder(tmp_path / "o", ("html",), overwrite=False)

    def test_a_file_in_the_way_is_named(self, tmp_path):
        (tmp_path / "f").touch()
        with pytest.raises(OutputError, match="is a file, wanted a folder"):
            check_folder(tmp_path / "f", ("html",), overwrite=True)
        with pytest.raises(OutputError, match=r"cannot be made, .*/f is a file"):
            check_folder(tmp_path / "f" / "g", ("html",), overwrite=True)

    def test_a_folder_that_may_not_be_made_is_named(self):
        with pytest.raises(OutputError, match="/proc/attnviz"):
            make_parents(Path("/proc/attnviz"))

    def test_a_folder_that_exists_may_be_another_disk_than_its_parent(self, tmp_path):
        """What is half done lies on the same disk as what it will replace."""
        places = []

        def fill(partial):
            places.append(partial.parent)
            (partial / "a").mkdir()
            (partial / "a" / "one").write_text("new")

        (tmp_path / "there" / "a").mkdir(parents=True)
        write_files(tmp_path / "there", ["a"], fill, "study", overwrite=True)
        write_files(tmp_path / "fresh", ["a"], fill, "study", overwrite=False)
        assert places == [tmp_path / "there", tmp_path]
        assert (tmp_path / "there" / "a" / "one").read_text() == "new"
        assert [p.name for p in (tmp_path / "there").iterdir()] == ["a"]

    def test_folders_are_named_after_images(self):
        names = [str(f) for f in folders_for(["x/cat.png", "y/cat.jpg", "dog.png"], None)]
        assert names == ["cat", "cat-2", "dog"]
        assert [str(f) for f in folders_for(["cat.png"], "out")] == ["out"]


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_says_what_its_map_means_and_what_it_does_not(name):
    meaning = glossary.method(name)
    assert meaning.means.endswith(".")
    assert meaning.not_means.endswith(".")
