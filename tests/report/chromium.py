"""A real browser for tests, and a page that is open in it."""

import shutil
from contextlib import contextmanager

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
# `expect` polls from outside of the page. `wait_for_function` uses `eval`, which the pages' policy forbids.
expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip

NEEDED = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@contextmanager
def running():
    """Start the browser, and close it at the end of the block."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, address, **options):
    """Open a page in a context with the given options, and close it at the end of the block."""
    context = browser.new_context(**options)
    try:
        yield Page(context.new_page(), address)
    finally:
        context.close()


class Page:
    """An open page with its errors and requests."""

    def __init__(self, tab, address):
        self.tab, self.errors, self.requests = tab, [], []
        tab.on("console", lambda message: self.errors.append(message.text))
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.set_default_timeout(10_000)
        tab.goto(address)

    def style(self, selector, name):
        return self.tab.eval_on_selector(selector, f"e => getComputedStyle(e).{name}")

    @property
    def title(self):
        """Title of the selected map."""
        return self.text("title")

    def text(self, part, side="a"):
        """Text of a part of the viewer's caption or scale."""
        return self.tab.text_content(f'[data-side="{side}"] [data-part="{part}"]')

    def set_mode(self, mode):
        """Select the layout: "one", "side" or "swipe"."""
        self.tab.check(f'input[name="mode"][value="{mode}"]', force=True)

    def wait_until(self, expression):
        """Wait until an expression is true, without `eval` in the page."""
        for _ in range(200):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(f"never true: {expression}")

    def axe_violations(self):
        """Return the violations that axe-core reports, as short lines."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
        found = axe.run(self.tab, options={"preload": False}).response["violations"]
        return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]

    def open_all_details(self):
        self.tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")

    def select_map(self, name):
        self.tab.check(f'input[name="map"][value="{name}"]', force=True)

    def set_slider(self, value):
        self.tab.eval_on_selector(
            "#opacity", f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
        )
