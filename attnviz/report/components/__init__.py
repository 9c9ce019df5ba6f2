"""What a report can put on display: each component is plain data with a title and a caption.

A component is a frozen dataclass of numbers, texts and arrays, so that ``explanation.json`` holds it as it is. It says
what its template ``templates/components/NAME.html.j2`` needs (:meth:`Component.view`), and which pictures of it belong
into a printed figure (:meth:`Component.static_images`). A new one is one file here and one template:
``@COMPONENTS.register("name")``.
"""

from attnviz.report.components.base import COMPONENTS
from attnviz.report.components.charts import Bars, Profile
from attnviz.report.components.filmstrip import Strip
from attnviz.report.components.image_grid import Pictures, Views
from attnviz.report.components.outline import Outline
from attnviz.report.components.query_maps import Queries
from attnviz.report.components.sampling_points import Level, Points
from attnviz.report.core.component import Backdrop, Component, StaticImage

__all__ = [
    "COMPONENTS",
    "Backdrop",
    "Bars",
    "Component",
    "Level",
    "Outline",
    "Pictures",
    "Points",
    "Profile",
    "Queries",
    "StaticImage",
    "Strip",
    "Views",
]
