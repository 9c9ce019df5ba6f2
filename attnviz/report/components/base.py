"""What all components share: the registry, the stage on which they are shown, and packed numbers for the page."""

from __future__ import annotations

from typing import Any

from attnviz.core.registry import Registry
from attnviz.report.core.component import Component

COMPONENTS: Registry[type[Any]] = Registry("component", home="attnviz.report.components")


def name_of(component: Component) -> str:
    """The name that a component's class is registered under."""
    return next(name for name, one in COMPONENTS.entries().items() if one is type(component))
