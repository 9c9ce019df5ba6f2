"""The HTML page of an explanation as text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from attnviz.report import describe
from attnviz.report.core.formatting import number
from attnviz.report.core.viewer_data import views_of
from attnviz.report.explanation import html
from attnviz.report.explanation.figure_layout import bands_of

TITLES = ("Spearman correlation", "SSIM", "Overlap of the top 20 %", "Hoyer", "Gini", "Entropy", "Near zero")


class Audit(HTMLParser):
    """The addresses, tags, labels and images without alternative text of a page."""

    def __init__(self):
        super().__init__()
        self.addresses, self.ids, self.labels, self.tags, self.without_alt = [], set(), set(), [], []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        self.tags.append(tag)
        self.addresses += [facts[key] for key in ("src", "href", "action", "data") if facts.get(key)]
        self.ids.add(facts.get("id"))
        self.labels.add(facts.get("for"))
        if tag == "img" and "alt" not in facts:
            self.without_alt.append(facts)


def audited(text):
    audit = Audit()
    audit.feed(text)
    return audit


def test_it_has_no_external_references(document):
    text = html.render(document)
    addresses = audited(text).addresses
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.findall(r"url\((?!data:)|@import|https?://(?!www\.w3\.org)", text)
    assert "default-src 'none'" in text


def test_every_image_and_control_has_a_name(document):
    audit = audited(html.render(document))
    assert not audit.without_alt
    assert "opacity" in audit.ids
    assert "opacity" in audit.labels
    assert audit.tags.count("main") == audit.tags.count("h1") == 1


def test_html_in_a_file_name_is_escaped(html_name):
    text = html.render(describe(html_name))
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_the_glossary_has_the_meaning_and_a_limitation_of_every_measure(document):
    text = html.render(document)
    for title in TITLES:
        assert re.search(rf"<dt>{title}</dt><dd>.+?</dd><dd class=\"muted\"><span class=\"not\">Not:</span> .", text)


def test_it_contains_every_map_every_site_every_note_and_the_target(document):
    text = html.render(document)
    assert text.count("data-map=") == len(document.maps)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.+?)</script>', text)[1])
    assert [view["name"] for view in data["views"]] == [view.name for view in document.maps]
    assert "tiger cat <small>p = 0.390</small>" in text
    assert document.notes[0] in text
    for site in document.sites:
        assert site.name.replace(".", ".<wbr>") in text


def test_the_command_reproduces_the_report(document):
    assert html._command(document) == (
        "attnviz explain sample_data/chelsea.png --model cbam --target 282 --weights default --sites '*' --seed 0 "
        "--methods gradcam,saliency,integrated_gradients,smoothgrad"
    )


@pytest.mark.parametrize(
    "change", [{"image": ""}, {"settings": {"methods": ["saliency"]}}, {"settings": {"model": "cbam", "methods": []}}]
)
def test_a_report_that_no_command_reproduces_has_no_command(document, change):
    other = replace(document, **change)
    assert html._command(other) == ""
    assert "Command that reproduces this report" not in html.render(other)
    assert "Command that reproduces this report" in html.render(document)


def test_the_subtitle_of_a_bounded_gate_contains_the_range_of_its_colours(document):
    view, site = document.maps[1], document.sites[1]
    assert (view.name, site.squash, site.kind) == (site.name, "sigmoid", "spatial")
    wanted = f"spatial gate; the colours span {number(view.low)} to {number(view.high)} of the range 0 to 1"
    assert views_of(document)[1]["subtitle"] == wanted
    headers = [header for header, _ in bands_of(document)]
    assert [" between 0 and 1, each colour scale" in header for header in headers] == [False, False, True]
    unbounded = replace(document, sites=tuple(replace(one, squash=None) for one in document.sites))
    assert views_of(unbounded)[1]["subtitle"] == "spatial gate"


def test_an_explanation_without_maps_has_a_page(explanation):
    empty = replace(explanation, records=(), heatmaps=(), scores=(), notes=(), settings={})
    text = html.render(describe(empty))
    assert "tiger cat" in text
    assert "Map of" not in text.split("<script")[0]


def test_a_measure_without_a_meaning_is_shown_under_its_name(explanation):
    unknown = replace(explanation.scores[1], measure="my_measure", higher_is="odder")
    text = html.render(describe(replace(explanation, scores=(unknown,))))
    assert "my measure" in text
