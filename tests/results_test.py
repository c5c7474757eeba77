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
    rows = [{"epoch": 1, "step": 10}, {"epoch": 2, "step": 20}]
    for row in rows:
        results.append_row(file, row)
    with file.open("a") as stream:
        stream.write('{"epoch": 3, "lo')
    assert results.read_rows(file) == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"runs": [], "config": 3}, "something else than expected under 'config'"),
        ({"runs": {}}, "something else than expected under 'runs'"),
        ({"config": {}}, "not an object with the keys runs"),
        ({"runs": [{"run": "a", "group": "SB"}]}, "a run without run, group, seed"),
        ({"runs": [], "schema": 2}, "the format 2 of a later bsexp; this one reads 1"),
        ([], "not an object"),
    ],
)
def test_a_study_of_another_form_is_refused_with_what_is_wrong_in_it(
    content, words, tmp_path
):
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(results.BrokenFileError, match=words):
        results.load(tmp_path)


def test_a_measurement_of_another_form_is_refused(tmp_path):
    file = tmp_path / "measurements.json"
    whole = {"settings": {}, "values": {}}
    for broken in (
        {"measurements": {"m": 3}},
        {"measurements": {"m": {"values": {}}}},
        {"measurements": {"m": whole}, "along": {"2": {"m": {"settings": {}}}}},
        {"measurements": {"m": whole}, "along": {"2": []}},
        {"measurements": {"m": whole}, "along": []},
        {"measurements": {"m": whole}, "aside": {}},
    ):
        results.write_json(file, broken)
        with pytest.raises(results.BrokenFileError, match=r"measurements\.json has"):
            results.points(tmp_path)
    results.write_json(
        file, {"measurements": {"m": whole}, "along": {"2": {"m": whole}}}
    )
    assert results.points(tmp_path) == {None: {"m": whole}, 2: {"m": whole}}


def test_a_row_that_does_not_say_where_it_stands_is_refused(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for broken in ("3", '{"epoch": 1}', "[]"):
        file.write_text(f'{{"epoch": 0, "step": 0}}\n{broken}\n')
        with pytest.raises(results.BrokenFileError, match=r"the keys epoch, step"):
            results.read_rows(file)


def test_a_study_that_measured_nothing_yet_has_columns_of_the_same_types(tmp_path):
    results.write_json(tmp_path / "study.json", {"runs": []})
    types = results.load(tmp_path).dtypes.astype(str).to_dict()
    numeric = {"seed": "int64", "batch_size": "int64", "value": "float64"}
    assert {**types, **numeric, "epoch": "Int64"} == types


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
    results.append_row(
        folder / "metrics.jsonl", {"epoch": 1, "step": 9, "train_loss": 2.0}
    )
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
            "step": 9,
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
