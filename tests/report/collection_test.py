"""The page of several studies: nothing invented, nothing of a stand-in counted, the same bytes every time."""

import re
import shutil

import pytest

from bsexp import report, results
from bsexp.report import collection

HOSTILE = """<script>alert("1")</script> & 'x' -->"""
FLOPS = 3.6e17


@pytest.fixture(scope="module")
def whole(pristine):
    """A folder with three studies: of F1 with results, of a stand-in for F2 with results, of C2 without."""
    study = pristine
    root = study.path.parent / "keskar2017"
    root.mkdir()
    shutil.copytree(study.path, root / "sharp_minima-F1")
    report.build(root / "sharp_minima-F1")
    # Its figures are the same: only what is computed from its files anew matters here.
    like = shutil.copytree(root / "sharp_minima-F1", root / "sharp_minima-F2_like")
    env = results.read_json(like / "env.json")
    synthetic = {"timit_like_60000": {"version": "1.0.0", "synthetic": True}}
    results.write_json(like / "env.json", env | {"data": synthetic})
    record = results.read_json(like / "study.json")
    results.write_json(like / "study.json", record | {"reference": {}})
    machine = {"cpu": "a test processor", "cores": 2, "rate": 1e11}
    estimate = {"names": [], "runs": 6, "flops": FLOPS, "machine": machine}
    write(root, [
        entry("sharp_minima:C2", reason="needs the data set cifar10", estimate=estimate),
        entry("sharp_minima:F1"),
        entry("sharp_minima:F2_like"),
    ])  # fmt: skip
    return root


@pytest.fixture
def place(whole, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(whole, tmp_path / "keskar2017")


def entry(name, reason="", estimate=None):
    folder = name.replace(":", "-")
    return {"name": name, "folder": folder, "reason": reason, "estimate": estimate}


def write(root, studies, question="Which cells?"):
    record = {
        "schema": 1,
        "name": "keskar2017",
        "question": question,
        "source": "",
        "command": "python -m bsexp.main --config=experiments/keskar2017.py",
        "studies": studies,
    }
    results.write_json(root / "collection.json", record)


def text(root):
    """What a reader sees of the page, spaces made one."""
    html = (root / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<(style|svg).*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_papers_cells_stand_beside_ours_in_the_papers_order(place):
    collection.build(place)
    page = text(place)
    assert page.index("98.03 ± 0.07") < page.index("89.24 ± 0.12")  # F1 before C2
    assert "98.03 ± 0.07 98.10 ± 0.10 (3) 97.81 ± 0.07 97.10 ± 0.10 (3)" in page
    rows = collection.paper_rows(collection.read(place))
    assert {row.network for row in rows} == {"F1", "C2"}
    verdicts = {row.verdict for row in rows if row.network == "C2"}
    assert verdicts == {"not run here"}


def test_a_stand_in_is_called_so_and_never_counted(place):
    answer = collection.build(place)
    page = text(place)
    assert "synthetic stand-in: timit_like_60000" in page
    assert "Data are a synthetic stand-in, so nothing is reproduced here" in page
    alone = [
        each
        for each in results.read_json(place / "collection.json")["studies"]
        if "like" not in each["name"]
    ]
    write(place, alone)
    without = collection.build(place)
    assert answer.split(". ")[0] == without.split(". ")[0]
    assert "synthetic" not in text(place)


def test_what_was_not_run_says_what_it_needs(place):
    """3.6e17 operations: 10 h at 10 TFLOP/s, a sixth with its six runs side by side, 1 000 h on the processor."""
    collection.build(place)
    said = "needs the data set cifar10; 3.6e+17 floating-point operations in 6 runs: 10 h 00 min on one accelerator, 1 h 40 min on eight, 1000 h 00 min on a test processor, 2 cores."
    assert said in text(place)


def test_the_same_folder_gives_the_same_bytes_and_loads_nothing(place):
    collection.build(place)
    first = (place / "report.html").read_bytes()
    collection.build(place)
    html = (place / "report.html").read_bytes()
    assert html == first
    assert not re.search(rb"<(script|link|img|iframe)|url\((?!#)|@import", html)
    ids = re.findall(rb'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    references = set(re.findall(rb'href="#([^"]*)"', html))
    assert references <= set(ids)


def test_figures_are_those_of_the_papers_networks(place):
    collection.build(place)
    page = text(place)
    assert "The straight line between both minima: sharp_minima:F1" in page
    assert "The straight line between both minima: sharp_minima:F2_like" not in page
    assert 'href="sharp_minima-F1/report.html"' in (place / "report.html").read_text()


def test_the_headline_counts_the_seeds_that_were_measured_in_both_groups(place):
    assert "F1 (an unknown number of epochs, 3 seeds): " in collection.build(place)
    assert "2 of 3 studies have results here" in collection.build(place)
    assert "n = 3" in text(place)
    runs = place / "sharp_minima-F1" / "runs"
    for run in runs.glob("*-B1000-seed[12]-*"):
        (run / "measurements.json").unlink()
    assert "F1 (an unknown number of epochs, 1 of 3 seeds): " in collection.build(place)
    assert "n = 1 of 3" in text(place)
    for file in runs.glob("*/measurements.json"):
        file.unlink()
    assert "1 of 3 studies have results here" in collection.build(place)


def test_the_distances_are_those_of_sb_in_units_of_lb(place):
    for seed in range(3):
        for size, factor in ((100, 6.0), (1000, 1.5)):
            (file,) = (place / "sharp_minima-F1" / "runs").glob(f"*-B{size}-seed{seed}-*/measurements.json")  # fmt: skip
            content = results.read_json(file)
            content["measurements"]["distance_from_start"]["values"] = {"distance_from_start": factor * (seed + 1)}  # fmt: skip
            results.write_json(file, content)
    said = collection.distances(collection.read(place))
    assert said.endswith("here the ratio of the means is 4 (F1).")


def test_other_studies_have_no_table_of_the_paper(place):
    write(place, [{**entry("mine"), "folder": "sharp_minima-F1"}])
    assert collection.build(place) == "1 of 1 studies have results here."
    assert "Table 2" not in text(place)


def test_hostile_words_are_shown_as_words(place):
    write(place, [entry(HOSTILE, reason=HOSTILE)], question=HOSTILE)
    collection.build(place)
    html = (place / "report.html").read_text()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 3


def test_a_folder_without_a_collection_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"collection\.json"):
        collection.build(tmp_path)


@pytest.mark.parametrize("change", ["synthetic", "other data"])
def test_a_network_of_the_paper_on_other_data_fills_no_cell_of_it(place, change):
    folder = place / "sharp_minima-F1"
    if change == "synthetic":
        env = results.read_json(folder / "env.json")
        marked = {"mnist": {"version": "1.0.0", "synthetic": True}}
        results.write_json(folder / "env.json", env | {"data": marked})
    else:
        record = results.read_json(folder / "study.json")
        config = {"data": {"name": "fashion_mnist"}}
        results.write_json(folder / "study.json", record | {"config": config})
    rows = collection.paper_rows(collection.read(place))
    assert {row.network for row in rows} == {"C2"}
