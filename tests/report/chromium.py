"""A real browser for tests, and a page that is open in it."""

import shutil
from contextlib import contextmanager

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = sync_api.expect  # waits from outside: the pages' policy forbids `eval`, which wait_for_function polls with
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip

NEEDED = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@contextmanager
def running():
    """The browser, until the block is left."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Reader:
    """A page that is open, and what went wrong in it."""

    def __init__(self, tab, address):
        self.tab, self.troubles, self.requests = tab, [], []
        tab.on("console", lambda message: self.troubles.append(message.text))
        tab.on("pageerror", lambda error: self.troubles.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.set_default_timeout(10_000)
        tab.goto(address)

    def style(self, selector, name):
        return self.tab.eval_on_selector(selector, f"e => getComputedStyle(e).{name}")

    @property
    def title(self):
        """Of the map that is shown."""
        return self.told("title")

    def told(self, part, side="a"):
        """What the viewer says of a map."""
        return self.tab.text_content(f'[data-side="{side}"] [data-part="{part}"]')

    def show(self, mode):
        """One map, side by side, or swipe."""
        self.tab.check(f'input[name="mode"][value="{mode}"]', force=True)

    def until(self, expression):
        """Wait for it, without `eval`, which a strict page forbids."""
        for _ in range(200):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(f"never: {expression}")

    def faults(self):
        """What axe-core finds wrong, as short lines."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
        found = axe.run(self.tab, options={"preload": False}).response["violations"]
        return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]

    def choose(self, name):
        self.tab.check(f'input[name="map"][value="{name}"]', force=True)

    def set_slider(self, value):
        self.tab.eval_on_selector(
            "#opacity", f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
        )
