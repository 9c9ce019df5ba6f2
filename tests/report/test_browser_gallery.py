"""The page of a run in a real browser: filter, sort and search many images; open one, and go on to the next."""

import threading

import pytest
from chromium import NEEDED, Reader
from runs import HOSTILE, LABELS, make_run, share_of, state_of, value_of

from attnviz.cli.open import serving
from attnviz.report.core.formatting import visible
from attnviz.report.dataset import write

pytestmark = NEEDED

IMAGES, MANY = 60, 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), IMAGES)
    (made / "details").mkdir()
    (made / "details" / "000003-m1.html").write_text("<!doctype html><title>x</title>")
    write(made)
    return made


@pytest.fixture
def reader(browser, folder, request):
    context = browser.new_context(**getattr(request, "param", {}))
    one = Reader(context.new_page(), (folder / "index.html").as_uri())
    yield one
    assert one.troubles == []
    context.close()


def count(reader):
    return reader.tab.text_content("#count")


def items(reader, most=6):
    """Numbers of the images that come first."""
    links = reader.tab.eval_on_selector_all(
        "#cards a", "all => all.sort((a, b) => a.dataset.place - b.dataset.place).map(e => e.getAttribute('href'))"
    )
    return [int(link[1:]) for link in links[:most]]


def go(reader, item):
    reader.tab.evaluate(f"location.hash = '#{item}'")
    reader.until("document.querySelectorAll('#numbers h3, #numbers p').length > 0")


class TestGallery:
    def test_it_opens_from_a_file_and_asks_for_nothing_outside_of_its_folder(self, reader, folder):
        assert count(reader) == f"{IMAGES} images"
        reader.tab.wait_for_selector("#cards img")
        outside = [one for one in reader.requests if not one.startswith((folder.as_uri(), "data:"))]
        assert outside == []

    def test_names_are_text_whatever_they_hold(self, reader):
        names = reader.tab.eval_on_selector_all("#cards .name", "all => all.map(e => e.title)")
        for name in HOSTILE:
            assert f"photos/{visible(name)}" in names
        assert reader.tab.evaluate("document.querySelectorAll('img[onerror], #cards b, #cards script').length") == 0

    def test_search_finds_names(self, reader):
        reader.tab.fill("#search", "00023")
        assert count(reader) == f"1 of {IMAGES} images"
        assert items(reader) == [23]
        reader.tab.fill("#search", "猫")
        assert items(reader) == [HOSTILE.index("猫の写真.jpg")]
        reader.tab.fill("#search", "nothing")
        assert (count(reader), items(reader)) == (f"0 of {IMAGES} images", [])

    @pytest.mark.parametrize(("value", "wanted"), [("4", ("ok", True)), ("3", ("ok", False)), ("1", ("failed", None))])
    def test_it_is_filtered_by_what_became_of_the_answer(self, reader, value, wanted):
        reader.tab.select_option("#state", value=value)
        found = [item for item in range(IMAGES) if state_of(item, 0) == wanted]
        assert count(reader) == f"{len(found)} of {IMAGES} images"
        assert items(reader) == found[:6]

    def test_it_is_filtered_by_class(self, reader):
        reader.tab.select_option("#label", label=LABELS[2])
        assert items(reader, 4) == [item for item in range(IMAGES) if item % 3 == 2 and item % 5 != 4][:4]

    def test_it_is_sorted_by_any_measure_and_what_has_no_number_comes_last(self, reader):
        values = {item: value_of(item, 0, 1) for item in range(1, IMAGES) if state_of(item, 0)[0] == "ok"}
        reader.tab.select_option("#sort", label="hoyer · gate.1")
        lowest = f"{min(values.values()):.3g}"
        reader.until(f"document.querySelector('#cards .line.muted').textContent === '{lowest}'")
        assert items(reader, 3)[0] == min(values, key=values.get)
        reader.tab.select_option("#order", label="highest first")
        assert items(reader, 1) == [max(values, key=lambda item: (values[item], -item))]
        reader.tab.eval_on_selector("#grid", "e => { e.scrollTop = e.scrollHeight; }")
        reader.until(f"document.querySelector('#cards a[data-place=\"{IMAGES - 1}\"]')")
        last = reader.tab.text_content(f"#cards a[data-place='{IMAGES - 1}'] .line.muted")
        assert last == "–"

    def test_another_model_has_other_answers(self, reader):
        reader.tab.select_option("#sort", label="probability")
        reader.tab.select_option("#model", label="timm:m2")
        text = reader.tab.text_content(f"#cards a[href='#{items(reader, 1)[0]}'] .line.muted")
        lowest = min(share_of(item, 1) for item in range(IMAGES) if state_of(item, 1)[0] == "ok")
        assert text == f"p = {lowest:.3g}".replace("-", "−")

    def test_arrow_keys_go_from_card_to_card(self, reader):
        across = reader.tab.evaluate("Math.floor(cards.clientWidth / document.querySelector('#cards li').clientWidth)")
        reader.tab.focus("#cards a[data-place='0']")
        for key, wanted in (
            ("ArrowRight", 1),
            ("ArrowDown", 1 + across),
            ("ArrowLeft", across),
            ("End", IMAGES - 1),
            ("Home", 0),
        ):
            reader.tab.keyboard.press(key)
            assert reader.tab.evaluate("document.activeElement.dataset.place") == str(wanted)

    def test_the_overview_shows_failures_first(self, reader):
        heads = reader.tab.eval_on_selector_all("#whole h2", "all => all.map(e => e.textContent)")
        assert heads[:4] == ["What the models made of them", "8 images failed", "Surprises", "Gallery"]
        assert "broken <b>file</b>" in reader.tab.text_content(".reasons")

    @pytest.mark.parametrize("reader", [{"java_script_enabled": False}], indirect=True)
    def test_without_scripts_the_overview_is_there(self, reader):
        assert reader.tab.is_visible("#failures")
        assert reader.tab.is_visible("noscript p")
        assert not reader.tab.is_visible("#single")


class TestOneImage:
    def test_a_card_opens_the_image(self, reader):
        reader.tab.click("#cards a[href='#3']")
        reader.tab.wait_for_selector("#tiles .linked")
        assert reader.tab.url.endswith("#3")
        assert reader.tab.text_content("#name") == visible(HOSTILE[3])
        assert not reader.tab.is_visible("#whole")
        assert reader.tab.text_content("#position") == f"4 of {IMAGES}"
        assert reader.tab.locator("#tiles li").count() == 2 * 3
        assert reader.tab.evaluate("document.activeElement.id") == "name"

    def test_its_maps_its_numbers_and_its_answers_are_there(self, reader):
        go(reader, 17)
        assert reader.title == "Grad-CAM · m1"
        assert reader.told("high") in {"≥ 1.97", "≥ 1.98", "≥ 1.99"}
        heads = reader.tab.eval_on_selector_all("#numbers h3", "all => all.map(e => e.textContent)")
        assert heads[:4] == ["The answer · m1", "Maps · m1", "Agreement of its maps · m1", "Attention g(x) · m1"]
        margin = reader.tab.text_content("#numbers table td")
        assert float(margin) == pytest.approx(value_of(17, 0, 0), rel=1e-2)
        assert "The label is <b>鳥</b>: wrong." in reader.tab.text_content("#answers")
        assert reader.tab.text_content("#answers .target .value") == f"{share_of(17, 0):.3f}"

    def test_keys_go_to_the_next_image_of_the_choice_and_back_to_the_gallery(self, reader):
        reader.tab.select_option("#state", value="3")
        wrong = [item for item in range(IMAGES) if state_of(item, 0) == ("ok", False)]
        reader.tab.click(f"#cards a[href='#{wrong[0]}']")
        reader.tab.wait_for_selector("#tiles .linked")
        for key, wanted in (
            ("j", wrong[1]),
            ("ArrowRight", wrong[2]),
            ("k", wrong[1]),
            ("ArrowLeft", wrong[0]),
            ("k", wrong[0]),
        ):
            reader.tab.keyboard.press(key)
            reader.until(f"location.hash === '#{wanted}'")
        reader.tab.keyboard.press("Escape")
        reader.tab.wait_for_selector("#cards a")
        assert reader.tab.is_visible("#whole")
        assert reader.tab.evaluate("document.activeElement.getAttribute('href')") == f"#{wrong[0]}"

    def test_two_maps_opacity_and_cursor_stay_from_image_to_image(self, reader):
        go(reader, 16)
        reader.show("swipe")
        reader.set_slider(80)
        reader.tab.select_option("#second", label="Saliency · timm:m2")
        reader.tab.focus("#stages")
        reader.tab.keyboard.press("ArrowRight")
        assert (
            "50 % from the left, 50 % from the top: Grad-CAM · m1 1.14; Saliency · timm:m2"
            in reader.tab.text_content("#readout")
        )
        reader.tab.keyboard.press("j")
        reader.until("document.getElementById('position').textContent.startsWith('18')")
        reader.until("document.getElementById('name').textContent.includes('00017')")
        assert reader.told("title", "b") == "Saliency · timm:m2"
        assert reader.style("#stage .overlay", "opacity") == "0.8"
        assert reader.tab.is_visible("#divider")
        assert reader.tab.locator("#tiles .mark:visible").count() == 6

    def test_an_image_that_failed_says_why(self, reader):
        go(reader, 5)
        assert "Failed: broken <b>file</b>" in reader.tab.text_content("#answers")
        assert reader.tab.text_content("#numbers") == "It has none."
        assert not reader.tab.is_visible("#tiles-of")

    def test_its_full_page_is_linked_where_there_is_one(self, reader):
        go(reader, 3)
        assert reader.tab.get_attribute("#answers a", "href") == "details/000003-m1.html"

    def test_an_address_leads_straight_to_it(self, browser, folder):
        context = browser.new_context()
        reader = Reader(context.new_page(), f"{(folder / 'index.html').as_uri()}#17")
        reader.tab.wait_for_selector("#tiles .linked")
        assert reader.tab.text_content("#name") == "00017.jpg"
        context.close()

    def test_it_is_the_same_page_from_a_server(self, browser, folder):
        with serving(folder, 0) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            context = browser.new_context()
            reader = Reader(context.new_page(), f"http://127.0.0.1:{server.server_address[1]}/index.html")
            reader.tab.click("#cards a[href='#17']")
            reader.tab.wait_for_selector("#tiles .linked")
            assert reader.troubles == []
            context.close()
            server.shutdown()
            thread.join()

    def test_a_data_file_that_is_gone_is_told(self, browser, tmp_path):
        make_run(tmp_path, 4, shard=4)
        write(tmp_path)
        (tmp_path / "page/data/part-000000.js").unlink()
        context = browser.new_context()
        reader = Reader(context.new_page(), f"{(tmp_path / 'index.html').as_uri()}#1")
        reader.until("document.getElementById('answers').textContent.includes('is not there')")
        context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
@pytest.mark.parametrize("at", ["", "#17", "#5"])
def test_axe_finds_nothing(browser, folder, scheme, width, at):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    reader = Reader(context.new_page(), (folder / "index.html").as_uri() + at)
    reader.tab.wait_for_selector("#numbers p, #numbers h3" if at else "#cards img", state="attached")
    reader.tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert reader.faults() == []
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == width
    assert reader.troubles == []
    context.close()


def test_ten_thousand_images_are_in_the_page_only_where_they_are_seen(browser, tmp_path):
    make_run(tmp_path, MANY, models=("m1",), shard=500)
    write(tmp_path)
    context = browser.new_context()
    reader = Reader(context.new_page(), (tmp_path / "index.html").as_uri())
    reader.tab.wait_for_selector("#cards img")
    assert count(reader) == "10,000 images"
    nodes = reader.tab.evaluate("document.querySelectorAll('*').length")
    for share in (0.5, 1, 0.1):
        reader.tab.eval_on_selector("#grid", f"e => {{ e.scrollTop = {share} * e.scrollHeight; }}")
        reader.tab.wait_for_timeout(100)
        assert reader.tab.locator("#cards li").count() < 80
    reader.tab.select_option("#sort", label="hoyer · gate.1")
    reader.until("document.querySelector('#cards .line.muted').textContent === '0'")
    reader.tab.fill("#search", "9999")
    assert count(reader) == "1 of 10,000 images"
    assert reader.tab.evaluate("document.querySelectorAll('*').length") <= nodes
    assert reader.troubles == []
    context.close()
