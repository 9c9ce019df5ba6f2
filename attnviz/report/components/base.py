"""The registry of components."""

from __future__ import annotations

from typing import Any

from attnviz.core.registry import Registry
from attnviz.report.core.component import Component

COMPONENTS: Registry[type[Any]] = Registry("component", home="attnviz.report.components")


def name_of(component: Component) -> str:
    """Return the name under which a component's class is registered."""
    return next(name for name, one in COMPONENTS.entries().items() if one is type(component))
