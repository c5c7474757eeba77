"""Figures as files: SVG and PDF with the same bytes every time, and SVG that can stand inside a page."""

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from bsexp.report.look import STYLE

_UNDATED = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

_COORDINATE = re.compile(r"\d\d+\.\d{4,}")


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name``.svg and ``name``.pdf, without any date; the figure's label becomes the title."""
    folder.mkdir(parents=True, exist_ok=True)
    with style.context(["default", STYLE]):
        for kind, undated in _UNDATED.items():
            metadata = {"Title": figure.get_label(), **undated}
            figure.savefig(folder / f"{name}.{kind}", format=kind, metadata=metadata)
    file = folder / f"{name}.svg"
    file.write_text(rounded(file.read_text(encoding="utf-8")), encoding="utf-8")


def rounded(svg: str) -> str:
    """Round coordinates to a thousandth of a point: the sixth decimal depends on the processor that laid out the figure."""
    return _COORDINATE.sub(lambda found: f"{float(found[0]):.3f}", svg)


def inline(svg: str, name: str, title: str) -> str:
    """Make a saved SVG fit to stand inside an HTML page, with ``title`` as its accessible name.

    Its ids get the prefix ``name``, so that several figures on one page do not take each other's glyphs.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<title>.*?</title>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # groups are never referred to
    body = re.sub(r"(\d\d\.\d\d)\d+", r"\1", body)  # a hundredth of a point is enough
    body = re.sub(r"\n\s+", "\n", body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    label = escape(title, quote=True)
    opening = f'<svg role="img" aria-label="{label}"'
    return body.replace("<svg", opening, 1).replace(
        ">", f">\n<title>{label}</title>", 1
    )


def remove(folder: Path, names: Iterable[str]) -> None:
    """Delete an earlier report's figures, which the folder's present results may no longer support."""
    for name in names:
        for kind in _UNDATED:
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
