"""Components of a report: data with a title, a caption and a template.

A component is a frozen dataclass of numbers, texts and arrays, so that ``explanation.json`` can store it.
:meth:`~attnviz.report.core.component.Component.view` returns the variables of its template
``templates/components/NAME.html.j2``, and ``static_images`` its pictures for a printed figure. A new component is one
file here, decorated with ``@COMPONENTS.register("name")``, and one template.
"""

from attnviz.report.components.boxes import Boxes
from attnviz.report.components.charts import Bars, Profile
from attnviz.report.components.classes import Classes
from attnviz.report.components.filmstrip import Strip
from attnviz.report.components.image_grid import Pictures, Views
from attnviz.report.components.outline import Outline
from attnviz.report.components.query_maps import Queries
from attnviz.report.components.sampling_points import Level, Points
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage

__all__ = [
    "COMPONENTS", "Backdrop", "Bars", "Boxes", "Classes", "Component", "Level", "Outline", "Pictures", "Points",
    "Profile", "Queries", "StaticImage", "Strip", "Views",
]  # fmt: skip
