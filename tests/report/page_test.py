"""The page and the figures: complete, self-contained, escaped, and the same every time."""

import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from bsexp import report, results
from bsexp.report.folder import read
from bsexp.report.page import duration, facts, render
from bsexp.report.summary import summarise

HOSTILE = """<script>alert("1")</script> & 'x' $\\frac{1$ --> ]]>"""
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text, and whether every tag is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [value for key, value in self.attributes if key == name]

    def says(self, words):
        return words in " ".join("".join(self.text).split())


def build(study):
    report.build(study.path)
    return Page((study.path / "report.html").read_text(encoding="utf-8"))


def without_figures(study):
    """The page, for tests of its words: drawing takes most of the time."""
    return Page(render(read(study.path), summarise(study.path), {}))


def files(study):
    made = [
        study.path / "summary.json",
        study.path / "report.html",
        *(study.path / "figures").iterdir(),
    ]
    return {file.name: file.read_bytes() for file in made}


@pytest.fixture(scope="module")
def built(pristine):
    return build(pristine)


def test_a_complete_study_gives_every_figure_and_lacks_nothing(built, pristine):
    page = built
    figures = {"training_curves", "linear_path", "sharpness", "trace_by_layer"}
    assert {value for value in page.values("id") if value.startswith("figure-")} == {
        f"figure-{n}" for n in figures
    }
    assert page.tags.count("svg") == 4
    assert {name for name in files(pristine) if name[-3:] in ("svg", "pdf")} == {
        f"{name}.{kind}" for name in figures for kind in ("svg", "pdf")
    }
    assert page.says("Nothing: every run is done")
    assert page.says(summarise(pristine.path)["answer"])


def test_the_page_is_closed_well_and_its_ids_are_unique_and_resolved(built):
    page = built
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    references = [*page.values("href"), *page.values("xlink:href")]
    assert len(references) > 100
    clips = re.findall(r"url\((#[^)]*)\)", " ".join(v for _, v in page.attributes if v))
    assert {reference[1:] for reference in [*references, *clips]} <= set(ids)


def test_the_page_runs_and_loads_nothing(built, pristine):
    page = built
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & set(
        page.tags
    )
    assert not [
        name
        for name, _ in page.attributes
        if name.startswith("on") or name in ("src", "action", "data")
    ]
    html = (pristine.path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(html.encode()) < 400_000


def test_every_figure_has_an_accessible_name(built):
    page = built
    labels = [value for value in page.values("aria-label") if value.endswith(".")]
    assert len(labels) == page.tags.count("svg") == 4
    assert page.values("role").count("img") == 4


def test_hostile_words_are_shown_as_words(study):
    record = results.read_json(study.path / "study.json")
    runs = [
        {**run, "group": HOSTILE if run["group"] == "LB" else "SB"}
        for run in record["runs"]
    ]
    study.study(
        name=HOSTILE,
        question=HOSTILE,
        source=HOSTILE,
        command=HOSTILE,
        config={HOSTILE: HOSTILE},
        runs=runs,
    )
    study.study(
        comparison=["SB", HOSTILE], reference={HOSTILE: record["reference"]["LB"]}
    )
    env = results.read_json(study.path / "env.json")
    results.write_json(
        study.path / "env.json", env | {"cpu": HOSTILE, "packages": {HOSTILE: HOSTILE}}
    )
    file = study.run("LB", 0) / "measurements.json"
    content = results.read_json(file)
    searches = content["measurements"]["sharpness/full/1e-3/running"]["detail"][
        "searches"
    ]
    searches["lbfgsb"] |= {"status": "failed", "message": HOSTILE}
    content["measurements"][HOSTILE] = {"values": {HOSTILE: 1.0}}
    results.write_json(file, content)
    results.write_json(
        study.run("SB", 0) / "status.json", {"state": HOSTILE, "error": HOSTILE}
    )
    page = build(study)
    assert "script" not in page.tags
    assert page.open == []
    assert "".join(page.text).count(HOSTILE) > 12


@pytest.mark.parametrize("text", [None, '{"a": [1,\n', "{}\n", "[1]\n"])
def test_a_page_is_built_whatever_happened_to_the_files(study, text):
    study.damage("env.json", text)
    study.damage("runs/*/*", text)
    page = build(study)
    assert page.open == []
    assert page.says("This report is incomplete")


def test_a_value_that_does_not_exist_leaves_the_report_complete(study):
    """A noise scale without a gradient, say: no further run could bring it."""
    study.measure("hessian/lambda_max/running", "SB", {2: None})
    page = build(study)
    assert not page.says("This report is incomplete")
    assert page.says("Some values are not finite or cannot be had")
    assert page.says("SB, seed 2: no finite value of hessian/lambda_max/running")


def test_a_study_without_any_run_folder_says_so(study):
    for file in sorted((study.path / "runs").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    page = build(study)
    assert page.says("LB, seed 2: not started")
    assert page.says("No figure could be drawn yet")
    assert page.says("The question cannot be answered")
    assert page.says("No sharpness has been measured")


def test_a_failed_search_is_reported_as_failed_and_not_as_flat(study):
    file = study.run("LB", 1) / "measurements.json"
    content = results.read_json(file)
    searches = content["measurements"]["sharpness/full/1e-3/batch"]["detail"][
        "searches"
    ]
    searches["lbfgsb"] |= {"value": 0.2, "status": "failed", "message": "ABNORMAL"}
    results.write_json(file, content)
    page = without_figures(study)
    assert page.says(
        "L-BFGS-B failed, did not move, or ended below a tenth of what sign ascent found, in 1 of 24 searches. This says nothing about flatness"
    )
    assert page.says(
        "LB, seed 1, φ, full space, ε = 1e-3, batch: L-BFGS-B failed (“ABNORMAL”) at φ = 0.2000"
    )
    assert page.says("12 evaluations, 10 iterations")


def test_a_search_that_hardly_left_the_point_is_not_called_flat(study):
    """Its own words are 'limit': only the other search shows that it found nothing."""
    file = study.run("LB", 0) / "measurements.json"
    content = results.read_json(file)
    record = content["measurements"]["sharpness/full/1e-3/batch"]
    record["detail"]["searches"]["lbfgsb"] |= {"value": 0.0125, "status": "limit"}
    results.write_json(file, content)
    page = without_figures(study)
    assert page.says("in 1 of 24 searches. This says nothing about flatness")
    assert page.says("far below sign ascent")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "abc123 (clean)"),
        ({"dirty": True}, "abc123 (with uncommitted changes)"),
        ({"dirty": None}, "abc123 (unknown whether changed)"),
        ({"commit": None}, "unknown"),
    ],
)
def test_the_commit_is_told_with_its_uncommitted_changes(study, change, text):
    env = results.read_json(study.path / "env.json")
    results.write_json(study.path / "env.json", env | change)
    assert dict(facts(read(study.path)))["commit"] == text


def test_nulls_on_the_path_are_left_out_and_counted(study):
    file = study.run("LB", 0) / "measurements.json"
    content = results.read_json(file)
    detail = content["measurements"]["path/linear/running"]["detail"]
    detail["train_loss"][24] = None
    del detail["test_accuracy"]
    results.write_json(file, content)
    page = build(study)
    assert page.says("LB, seed 0: path/linear/running lacks 1 of 100 values")
    assert "figure-linear_path" in page.values("id")


def test_searches_without_any_positive_value_can_be_drawn(study):
    for measure in ("sharpness/full/1e-3", "sharpness/full/5e-4"):
        for mode in ("running", "batch"):
            for group in ("SB", "LB"):
                study.measure(f"{measure}/{mode}", group, dict.fromkeys(range(3)))
    study.study(reference={})
    assert build(study).says("no finite value of sharpness/full/1e-3/running")


def test_more_than_two_groups_without_a_comparison(study):
    record = results.read_json(study.path / "study.json")
    runs = [
        {**run, "group": f"B{i}", "batch_size": i}
        for i, run in enumerate(record["runs"], 1)
    ]
    study.study(runs=runs, comparison=None, reference={})
    page = build(study)
    assert page.says("B = 6")
    assert "figure-linear_path" not in page.values("id")


def test_the_same_folder_gives_the_same_bytes(study):
    report.build(study.path)
    first = files(study)
    report.build(study.path)
    assert files(study) == first
    assert b"Date" not in first["sharpness.pdf"]


def test_a_figure_that_can_no_longer_be_drawn_does_not_stay(study):
    report.build(study.path)
    study.drop("path/linear/running")
    study.drop("path/linear/batch")
    report.build(study.path)
    assert "linear_path.svg" not in files(study)


def test_a_folder_without_a_study_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"study\.json"):
        report.build(tmp_path)


def test_the_report_imports_no_jax_and_no_other_part():
    code = "import sys, bsexp.report; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name.split(".")[1] for name in modules if name.startswith("bsexp.")}
    assert ours == {"report", "results"}
    assert not {"jax", "flax", "matplotlib.pyplot"} & set(modules)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (8.24, "8.24 s"),
        (812.3, "13 min 32 s"),
        (7500, "2 h 05 min"),
        (59.9, "59.9 s"),
        (math.nan, "unknown"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
