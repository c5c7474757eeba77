"""The report: a pure function of a study's folder. It trains nothing and needs no accelerator."""

from os import PathLike
from pathlib import Path
from typing import Any

from bsexp.report import (
    along,
    batch_sizes,
    critical_noise,
    curvature,
    figures,
    folder,
    invariance,
    page,
    sharpness,
    steps_to_target,
    summary,
    vector,
    warm_start,
)

FIGURES = {
    "training_curves": figures.training_curves,
    "linear_path": figures.linear_path,
    "arc_path": figures.arc_path,
    "steps_to_target": steps_to_target.steps_to_target,
    "critical_noise": critical_noise.critical_noise,
    "batch_sizes": batch_sizes.batch_sizes,
    "sharpness": sharpness.sharpness,
    "density": curvature.density,
    "trace_by_layer": curvature.trace_by_layer,
    "invariance": invariance.invariance,
    "warm_start": warm_start.warm_start,
    "sharpness_and_loss": along.sharpness_and_loss,
    "along_training": along.along_training,
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
            if study.synthetic:
                figure.suptitle(folder.STAND_IN, fontsize=9)
            vector.save(figure, place, name)
            drawn[name] = (
                (place / f"{name}.svg").read_text(encoding="utf-8"),
                str(figure.get_label()),
            )
    return drawn
