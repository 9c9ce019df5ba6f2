"""The page of a run in a real browser: filter, sort and search images; open one, and continue with the next."""

import threading

import pytest
from chromium import NEEDED, opened
from runs import LABELS, UNUSUAL_NAMES, make_run, share_of, state_of, value_of

from attnviz.cli.open import serving
from attnviz.report.core.formatting import visible
from attnviz.report.dataset import write

pytestmark = NEEDED

IMAGES, MANY = 60, 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run"), IMAGES)
    (run / "details").mkdir()
    (run / "details" / "000003-m1.html").write_text("<!doctype html><title>x</title>")
    write(run)
    return run


@pytest.fixture
def page(browser, folder, request):
    with opened(browser, (folder / "index.html").as_uri(), **getattr(request, "param", {})) as one:
        yield one
        assert one.errors == []


def count(page):
    return page.tab.text_content("#count")


def items(page, most=6):
    """Return the numbers of the first images."""
    links = page.tab.eval_on_selector_all(
        "#cards a", "all => all.sort((a, b) => a.dataset.rank - b.dataset.rank).map(e => e.getAttribute('href'))"
    )
    return [int(link[1:]) for link in links[:most]]


def go(page, item):
    page.tab.evaluate(f"location.hash = '#{item}'")
    page.wait_until("document.querySelectorAll('#measures h3, #measures p').length > 0")


class TestGallery:
    def test_it_opens_from_a_file_without_requests_outside_of_its_folder(self, page, folder):
        assert count(page) == f"{IMAGES} images"
        page.tab.wait_for_selector("#cards img")
        outside = [one for one in page.requests if not one.startswith((folder.as_uri(), "data:"))]
        assert outside == []

    def test_markup_in_names_is_text(self, page):
        names = page.tab.eval_on_selector_all("#cards .name", "all => all.map(e => e.title)")
        for name in UNUSUAL_NAMES:
            assert f"photos/{visible(name)}" in names
        assert page.tab.evaluate("document.querySelectorAll('img[onerror], #cards b, #cards script').length") == 0

    def test_the_search_matches_names(self, page):
        page.tab.fill("#search", "00023")
        assert count(page) == f"1 of {IMAGES} images"
        assert items(page) == [23]
        page.tab.fill("#search", "猫")
        assert items(page) == [UNUSUAL_NAMES.index("猫の写真.jpg")]
        page.tab.fill("#search", "nothing")
        assert (count(page), items(page)) == (f"0 of {IMAGES} images", [])

    @pytest.mark.parametrize(("value", "wanted"), [("4", ("ok", True)), ("3", ("ok", False)), ("1", ("failed", None))])
    def test_it_can_be_filtered_by_prediction(self, page, value, wanted):
        page.tab.select_option("#state", value=value)
        found = [item for item in range(IMAGES) if state_of(item, 0) == wanted]
        assert count(page) == f"{len(found)} of {IMAGES} images"
        assert items(page) == found[:6]

    def test_it_can_be_filtered_by_class(self, page):
        page.tab.select_option("#label", label=LABELS[2])
        assert items(page, 4) == [item for item in range(IMAGES) if item % 3 == 2 and item % 5 != 4][:4]

    def test_it_can_be_sorted_by_any_measure_with_missing_numbers_last(self, page):
        values = {item: value_of(item, 0, 1) for item in range(1, IMAGES) if state_of(item, 0)[0] == "ok"}
        page.tab.select_option("#sort", label="hoyer · gate.1")
        lowest = f"{min(values.values()):.3g}"
        page.wait_until(f"document.querySelector('#cards .line.muted').textContent === '{lowest}'")
        assert items(page, 3)[0] == min(values, key=values.get)
        page.tab.select_option("#order", label="highest first")
        assert items(page, 1) == [max(values, key=lambda item: (values[item], -item))]
        page.tab.eval_on_selector("#grid", "e => { e.scrollTop = e.scrollHeight; }")
        page.wait_until(f"document.querySelector('#cards a[data-rank=\"{IMAGES - 1}\"]')")
        last = page.tab.text_content(f"#cards a[data-rank='{IMAGES - 1}'] .line.muted")
        assert last == "–"

    def test_predictions_depend_on_the_selected_model(self, page):
        page.tab.select_option("#sort", label="probability")
        page.tab.select_option("#model", label="timm:m2")
        text = page.tab.text_content(f"#cards a[href='#{items(page, 1)[0]}'] .line.muted")
        lowest = min(share_of(item, 1) for item in range(IMAGES) if state_of(item, 1)[0] == "ok")
        assert text == f"p = {lowest:.3g}".replace("-", "−")

    def test_arrow_keys_move_between_cards(self, page):
        across = page.tab.evaluate("Math.floor(cards.clientWidth / document.querySelector('#cards li').clientWidth)")
        page.tab.focus("#cards a[data-rank='0']")
        for key, wanted in (
            ("ArrowRight", 1),
            ("ArrowDown", 1 + across),
            ("ArrowLeft", across),
            ("End", IMAGES - 1),
            ("Home", 0),
        ):
            page.tab.keyboard.press(key)
            assert page.tab.evaluate("document.activeElement.dataset.rank") == str(wanted)

    def test_the_overview_starts_with_models_and_failures(self, page):
        headings = page.tab.eval_on_selector_all("#overview h2", "all => all.map(e => e.textContent)")
        assert headings[:4] == ["Models", "8 images failed", "Outliers", "Gallery"]
        assert "broken <b>file</b>" in page.tab.text_content(".reasons")

    @pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
    def test_without_scripts_the_overview_is_visible(self, page):
        assert page.tab.is_visible("#failures")
        assert page.tab.is_visible("noscript p")
        assert not page.tab.is_visible("#image-view")


class TestOneImage:
    def test_a_card_opens_the_image(self, page):
        page.tab.click("#cards a[href='#3']")
        page.tab.wait_for_selector("#tiles .linked")
        assert page.tab.url.endswith("#3")
        assert page.tab.text_content("#name") == visible(UNUSUAL_NAMES[3])
        assert not page.tab.is_visible("#overview")
        assert page.tab.text_content("#position") == f"4 of {IMAGES}"
        assert page.tab.locator("#tiles li").count() == 2 * 3
        assert page.tab.evaluate("document.activeElement.id") == "name"

    def test_its_maps_measures_and_predictions_are_shown(self, page):
        go(page, 17)
        assert page.title == "Grad-CAM · m1"
        assert page.text("high") in {"≥ 1.97", "≥ 1.98", "≥ 1.99"}
        headings = page.tab.eval_on_selector_all("#measures h3", "all => all.map(e => e.textContent)")
        assert headings[:4] == ["Prediction · m1", "Maps · m1", "Agreement of maps · m1", "Attention g(x) · m1"]
        margin = page.tab.text_content("#measures table td")
        assert float(margin) == pytest.approx(value_of(17, 0, 0), rel=1e-2)
        assert "Label: <b>鳥</b>, wrong." in page.tab.text_content("#predictions")
        assert page.tab.text_content("#predictions .target .value") == f"{share_of(17, 0):.3f}"

    def test_keys_move_to_the_next_filtered_image_and_back_to_the_gallery(self, page):
        page.tab.select_option("#state", value="3")
        wrong = [item for item in range(IMAGES) if state_of(item, 0) == ("ok", False)]
        page.tab.click(f"#cards a[href='#{wrong[0]}']")
        page.tab.wait_for_selector("#tiles .linked")
        for key, wanted in (
            ("j", wrong[1]),
            ("ArrowRight", wrong[2]),
            ("k", wrong[1]),
            ("ArrowLeft", wrong[0]),
            ("k", wrong[0]),
        ):
            page.tab.keyboard.press(key)
            page.wait_until(f"location.hash === '#{wanted}'")
        page.tab.keyboard.press("Escape")
        page.tab.wait_for_selector("#cards a")
        assert page.tab.is_visible("#overview")
        assert page.tab.evaluate("document.activeElement.getAttribute('href')") == f"#{wrong[0]}"

    def test_maps_opacity_and_cursor_are_kept_for_the_next_image(self, page):
        go(page, 16)
        page.set_mode("swipe")
        page.set_slider(80)
        page.tab.select_option("#second", label="Saliency · timm:m2")
        page.tab.focus("#panes")
        page.tab.keyboard.press("ArrowRight")
        assert "50 % from the left, 50 % from the top: Grad-CAM · m1 1.14; Saliency · timm:m2" in page.tab.text_content(
            "#readout"
        )
        page.tab.keyboard.press("j")
        page.wait_until("document.getElementById('position').textContent.startsWith('18')")
        page.wait_until("document.getElementById('name').textContent.includes('00017')")
        assert page.text("title", "b") == "Saliency · timm:m2"
        assert page.style("#pane-a .overlay", "opacity") == "0.8"
        assert page.tab.is_visible("#divider")
        assert page.tab.locator("#tiles .mark:visible").count() == 6

    def test_a_failed_image_has_its_reason(self, page):
        go(page, 5)
        assert "Failed: broken <b>file</b>" in page.tab.text_content("#predictions")
        assert page.tab.text_content("#measures") == "No measures."
        assert not page.tab.is_visible("#tiles-of")

    def test_a_full_report_is_linked(self, page):
        go(page, 3)
        assert page.tab.get_attribute("#predictions a", "href") == "details/000003-m1.html"

    def test_an_address_opens_an_image(self, browser, folder):
        with opened(browser, f"{(folder / 'index.html').as_uri()}#17") as page:
            page.tab.wait_for_selector("#tiles .linked")
            assert page.tab.text_content("#name") == "00017.jpg"

    def test_it_works_from_a_server(self, browser, folder):
        with serving(folder, 0) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            with opened(browser, f"http://127.0.0.1:{server.server_address[1]}/index.html") as page:
                page.tab.click("#cards a[href='#17']")
                page.tab.wait_for_selector("#tiles .linked")
                assert page.errors == []
            server.shutdown()
            thread.join()

    def test_a_missing_data_file_is_reported(self, browser, tmp_path):
        make_run(tmp_path, 4, shard=4)
        write(tmp_path)
        (tmp_path / "page/data/part-000000.js").unlink()
        with opened(browser, f"{(tmp_path / 'index.html').as_uri()}#1") as page:
            page.wait_until("document.getElementById('predictions').textContent.includes('cannot be loaded')")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
@pytest.mark.parametrize("at", ["", "#17", "#5"])
def test_axe_reports_no_violations(browser, folder, scheme, width, at):
    address, viewport = (folder / "index.html").as_uri() + at, {"width": width, "height": 800}
    with opened(browser, address, color_scheme=scheme, viewport=viewport) as page:
        page.tab.wait_for_selector("#measures p, #measures h3" if at else "#cards img", state="attached")
        page.open_all_details()
        assert page.axe_violations() == []
        assert page.tab.evaluate("document.documentElement.scrollWidth") == width
        assert page.errors == []


def test_of_ten_thousand_images_only_the_visible_ones_are_in_the_page(browser, tmp_path):
    make_run(tmp_path, MANY, models=("m1",), shard=500)
    write(tmp_path)
    with opened(browser, (tmp_path / "index.html").as_uri()) as page:
        page.tab.wait_for_selector("#cards img")
        assert count(page) == "10,000 images"
        nodes = page.tab.evaluate("document.querySelectorAll('*').length")
        for share in (0.5, 1, 0.1):
            page.tab.eval_on_selector("#grid", f"e => {{ e.scrollTop = {share} * e.scrollHeight; }}")
            page.tab.wait_for_timeout(100)
            assert page.tab.locator("#cards li").count() < 80
        page.tab.select_option("#sort", label="hoyer · gate.1")
        page.wait_until("document.querySelector('#cards .line.muted').textContent === '0'")
        page.tab.fill("#search", "9999")
        assert count(page) == "1 of 10,000 images"
        assert page.tab.evaluate("document.querySelectorAll('*').length") <= nodes
        assert page.errors == []
