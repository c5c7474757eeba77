"""The report: a pure function of a study's folder. It trains nothing and needs no accelerator."""

from os import PathLike
from pathlib import Path
from typing import Any

from bsexp.report import curvature, figures, folder, page, sharpness, summary, vector

FIGURES = {
    "training_curves": figures.training_curves,
    "linear_path": figures.linear_path,
    "sharpness": sharpness.sharpness,
    "density": curvature.density,
    "trace_by_layer": curvature.trace_by_layer,
}


def build(workdir: str | PathLike) -> dict[str, Any]:
    """Write summary.json, figures/*.{svg,pdf} and report.html into a study's folder.

    Works on an unfinished study too: the page then says what is missing. The same folder gives the same bytes.

    Returns:
        The summary, see ``bsexp.report.summary.summarise``.

    Raises:
        FileNotFoundError: the folder has no study.json.
    """
    root = Path(workdir)
    numbers = summary.write(root)
    study = folder.read(root)
    drawn = _draw(study, root / "figures")
    (root / "report.html").write_text(
        page.render(study, numbers, drawn), encoding="utf-8"
    )
    return numbers


def _draw(study: folder.Study, place: Path) -> dict[str, tuple[str, str]]:
    vector.remove(place, FIGURES)
    drawn = {}
    for name, draw in FIGURES.items():
        figure = draw(study)
        if figure is not None:
            vector.save(figure, place, name)
            drawn[name] = (
                (place / f"{name}.svg").read_text(encoding="utf-8"),
                str(figure.get_label()),
            )
    return drawn
