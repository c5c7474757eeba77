"""What the folder lacks is named in sentences."""

import pytest

from bsexp import results
from bsexp.report.folder import absent, missing, read
from bsexp.report.summary import summarise

RUN_FILES = ("env.json", "status.json", "metrics.jsonl", "measurements.json")
FILES = ("env.json", *(f"runs/*/{name}" for name in RUN_FILES))


def test_a_complete_study_lacks_nothing(study):
    assert missing(read(study.path)) == []


@pytest.mark.parametrize("files", FILES)
@pytest.mark.parametrize("text", [None, '{"a": [1,\n', "[1\n"])
def test_a_file_that_is_missing_or_broken_is_named(study, files, text):
    study.damage(files, text)
    summarise(study.path)
    sentences = " ".join(missing(read(study.path)))
    assert files.rpartition("/")[2] in sentences
    assert str(study.path) not in sentences


def test_a_failed_run_and_an_absent_measure_are_named(study):
    results.write_json(
        study.run("LB", 1) / "status.json", {"state": "failed", "error": "loss is nan"}
    )
    study.measure("hessian/lambda_max/running", "SB", {2: None})
    file = study.run("SB", 0) / "measurements.json"
    content = results.read_json(file)
    del content["measurements"]["hessian/trace/batch"]
    results.write_json(file, content)
    sentences = missing(read(study.path))
    assert any(
        sentence.startswith("LB, seed 1: failed; error: loss is nan")
        for sentence in sentences
    )
    assert any(
        sentence.startswith("SB, seed 2: no finite value of hessian/lambda_max/running")
        for sentence in sentences
    )
    assert any(
        sentence.startswith("SB, seed 0: not measured: hessian/trace/batch")
        for sentence in sentences
    )


def test_a_measure_that_a_run_cannot_have_is_named_with_the_reason(study):
    nothing = {"absent": "the optimizer has no second moments"}
    entry = {"settings": {}, "values": {}, "detail": nothing, "seconds": 0.1}
    for group, seed in study.runs:
        file = study.run(group, seed) / "measurements.json"
        content = results.read_json(file)
        content["measurements"]["hessian/preconditioned/batch"] = entry
        results.write_json(file, content)
    found = read(study.path)
    assert len(missing(found)) == len(study.runs)
    assert missing(found)[0].endswith(
        "no hessian/preconditioned/batch: the optimizer has no second moments."
    )
    assert absent(found) == [], "no further run could bring it"
