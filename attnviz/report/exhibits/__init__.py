"""What a report can put on display: each exhibit is plain data with a title and a caption.

An exhibit is a frozen dataclass of numbers, texts and arrays, so that ``explanation.json`` holds it as it is. It says
what its template ``templates/exhibits/NAME.html.j2`` needs (:meth:`Exhibit.view`), and which pictures of it belong into
a printed figure (:meth:`Exhibit.stills`). A new one joins by one file here and one template:
``@EXHIBITS.register("name")``.
"""

from attnviz.report.exhibits.base import EXHIBITS, Exhibit, Stage, Still
from attnviz.report.exhibits.numbers import Bars, Profile
from attnviz.report.exhibits.outline import Outline
from attnviz.report.exhibits.pictures import Pictures, Views
from attnviz.report.exhibits.points import Level, Points
from attnviz.report.exhibits.queries import Queries
from attnviz.report.exhibits.strip import Strip

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
