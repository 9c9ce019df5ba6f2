"""What a report can put on display: each exhibit is plain data with a title and a caption.

An exhibit is a frozen dataclass of numbers, texts and arrays, so that ``explanation.json`` holds it as it is. It says
what its template ``templates/exhibits/NAME.html.j2`` needs (:meth:`Exhibit.view`), and which pictures of it belong into
a printed figure (:meth:`Exhibit.stills`). A new one joins by one file here and one template:
``@EXHIBITS.register("name")``.
"""

from attnviz.report.components.base import EXHIBITS
from attnviz.report.components.charts import Bars, Profile
from attnviz.report.components.filmstrip import Strip
from attnviz.report.components.image_grid import Pictures, Views
from attnviz.report.components.outline import Outline
from attnviz.report.components.query_maps import Queries
from attnviz.report.components.sampling_points import Level, Points
from attnviz.report.core.component import Exhibit, Stage, Still

__all__ = [
    "EXHIBITS",
    "Bars",
    "Exhibit",
    "Level",
    "Outline",
    "Pictures",
    "Points",
    "Profile",
    "Queries",
    "Stage",
    "Still",
    "Strip",
    "Views",
]
