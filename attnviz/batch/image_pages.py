"""Full pages, as of ``attnviz explain``, of the most unusual images of a run."""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from attnviz.batch.plan import LAST, Plan
from attnviz.batch.store import Store
from attnviz.errors import AttnvizError
from attnviz.media.image_decoding import decode
from attnviz.media.image_item import Item, printable
from attnviz.media.remote_files import read_image


def page_name(item: int, model: str) -> str:
    """Return the path of the page of an image in the run's folder.

    >>> page_name(17, "timm:seresnet50")
    'details/000017-timm_seresnet50.html'
    """
    return f"details/{item:06d}-{re.sub(r'[^A-Za-z0-9.-]', '_', model)}.html"


def write_pages(
    store: Store,
    plan: Plan,
    items: Sequence[Item],
    wanted: Sequence[tuple[int, str]],
    device: str = "auto",
    progress: Callable[[int], object] = lambda _done: None,
) -> list[str]:
    """Write the missing pages of ``wanted``, pairs of the number of an image and the name of a model.

    Returns:
        Paths of all of these pages in the run's folder; an image that cannot be explained has none.
    """
    from attnviz.explanation.explain import explain
    from attnviz.models.devices import choose_device

    written: dict[tuple[int, str], str] = {}
    done = 0
    for planned in plan.models:
        numbers = [number for number, model in wanted if model == planned.name]
        missing = [number for number in numbers if not store.folder.exists(page_name(number, planned.name))]
        written.update({(number, planned.name): page_name(number, planned.name) for number in numbers})
        if not missing:
            continue
        options = plan.options
        vision = options.load(planned.name)
        vision.module.to(choose_device(device))
        sites = "*" if plan.options.sites == LAST else plan.options.sites
        for number in missing:
            path, asked = items[number].path, items[number].asked
            try:
                picture = decode(printable(path), data=read_image(path))
                explanation = explain(
                    picture, vision, methods=planned.methods, sites=sites, seed=plan.options.seed,
                    weights=options.weights, target=asked.target or options.target,
                    contrast=asked.contrast or options.contrast, query=asked.query, box=asked.region,
                )  # fmt: skip
                with tempfile.TemporaryDirectory() as folder:
                    file = explanation.save(Path(folder) / "page.html")
                    store.folder.write(page_name(number, planned.name), file.read_bytes())
            except AttnvizError:
                del written[number, planned.name]
            done += 1
            progress(done)
    return [written[key] for key in wanted if key in written]
