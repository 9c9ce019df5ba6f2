"""The whole list runs only with ``-m conformance``."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "conformance" in config.getoption("markexpr", ""):
        return
    deselected = [item for item in items if item.get_closest_marker("conformance")]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]
