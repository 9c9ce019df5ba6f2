"""What all exhibits share: the registry, the stage on which they are shown, and packed numbers for the page."""

from __future__ import annotations

from typing import Any

from attnviz.core.registry import Registry
from attnviz.report.core.component import Exhibit

EXHIBITS: Registry[type[Any]] = Registry("exhibit", home="attnviz.report.components")


def name_of(exhibit: Exhibit) -> str:
    """The name that an exhibit's class is registered under."""
    return next(name for name, one in EXHIBITS.entries().items() if one is type(exhibit))
