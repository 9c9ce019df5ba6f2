"""The whole list runs only where it is asked for, by ``-m conformance``."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "conformance" in config.getoption("markexpr", ""):
        return
    left_out = [item for item in items if item.get_closest_marker("conformance")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
