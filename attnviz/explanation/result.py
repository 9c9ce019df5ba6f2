"""The explanation that :func:`attnviz.explain` returns: plain data that can write its report."""

from pathlib import Path

from attnviz.core.explanation_results import ExplanationData


class Explanation(ExplanationData):
    """Everything that a report shows about one image and one model; see :class:`ExplanationData` for the fields."""

    __slots__ = ()

    def save(self, path: str | Path) -> Path:
        """Write the report in the format of the file's ending: ``.html``, ``.png``, ``.json`` or ``.gif``.

        An existing file is replaced; missing folders are created.

        Returns:
            The path.

        Raises:
            UnknownNameError: no such format.
            OutputError: the file cannot be written.
        """
        from attnviz.report import save

        path = Path(path)
        save(self, path)
        return path
