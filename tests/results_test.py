import json
import math

import pytest

from bsexp import results


def test_numbers_that_are_not_finite_are_null_with_a_flag_beside_them(tmp_path):
    value = {
        "a": math.nan,
        "b": [1.0, math.inf, -math.inf],
        "c": {"d": math.inf},
        "e": 2.5,
        "f": "nan",
        "g": None,
    }
    results.write_json(tmp_path / "x.json", value)
    assert json.loads(
        (tmp_path / "x.json").read_text(), parse_constant=pytest.fail
    ) == {
        "a": None,
        "a_flag": "nan",
        "b": [1.0, None, None],
        "b_flag": {"1": "inf", "2": "-inf"},
        "c": {"d": None, "d_flag": "inf"},
        "e": 2.5,
        "f": "nan",
        "g": None,
    }


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x.json"
    results.write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        results.write_json(file, {"a": object()})
    assert results.read_json(file) == {"a": 1}


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON"):
        results.read_json(tmp_path / "x.json")


def test_a_row_cut_short_by_a_kill_is_left_out(tmp_path):
    file = tmp_path / "rows.jsonl"
    results.append_row(file, {"epoch": 1})
    results.append_row(file, {"epoch": 2})
    with file.open("a") as stream:
        stream.write('{"epoch": 3, "lo')
    assert results.read_rows(file) == [{"epoch": 1}, {"epoch": 2}]


def test_a_study_is_loaded_as_a_tidy_frame(tmp_path):
    runs = [
        {"run": "r0", "group": "SB", "seed": 0, "batch_size": 8},
        {"run": "r1", "group": "LB", "seed": 0, "batch_size": 80},
    ]
    results.write_json(tmp_path / "study.json", {"runs": runs})
    folder = tmp_path / "runs" / "r0"
    folder.mkdir(parents=True)
    measured = {
        "m": {
            "settings": {},
            "values": {"test_accuracy": 0.5, "trace": math.nan},
            "detail": {},
            "seconds": 1.0,
        }
    }
    results.write_json(folder / "measurements.json", {"measurements": measured})
    results.append_row(folder / "metrics.jsonl", {"epoch": 1, "train_loss": 2.0})
    frame = results.load(tmp_path)
    assert list(frame.columns) == [
        "run",
        "group",
        "seed",
        "batch_size",
        "measure",
        "value",
        "epoch",
    ]
    assert frame["epoch"].isna().all()
    assert frame.set_index("measure").loc["test_accuracy", "value"] == 0.5
    assert math.isnan(frame.set_index("measure").loc["trace", "value"])
    assert len(frame) == 2
    curves = results.load_metrics(tmp_path)
    assert curves.to_dict("records") == [
        {
            "run": "r0",
            "group": "SB",
            "seed": 0,
            "batch_size": 8,
            "epoch": 1,
            "train_loss": 2.0,
        }
    ]


def test_a_folder_without_a_study_is_said_to_be_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"it has no study\.json"):
        results.load(tmp_path)


def finished_run(folder, state="done"):
    (folder / "checkpoints" / "12").mkdir(parents=True)
    content = {
        "run": "a-00000000",
        **{key: {} for key in ("data", "model", "batch", "optimizer", "train")},
        "group": "SB",
        "seed": 3,
    }
    results.write_json(folder / "config.json", content)
    results.write_json(folder / "status.json", {"state": state})
    return content


def test_a_finished_run_is_read_by_its_folder(tmp_path):
    content = finished_run(tmp_path)
    assert results.finished_run(tmp_path) == content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no run is there"),
        (lambda folder: (folder / "checkpoints" / "12").rmdir(), "not there"),
        (
            lambda folder: results.write_json(
                folder / "status.json", {"state": "interrupted"}
            ),
            "has not finished; its state is interrupted",
        ),
        (
            lambda folder: results.write_json(folder / "config.json", {"run": "a"}),
            "is not an object with the keys",
        ),
    ],
)
def test_what_is_no_finished_run_is_told(tmp_path, damage, message):
    finished_run(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        results.finished_run(tmp_path)
