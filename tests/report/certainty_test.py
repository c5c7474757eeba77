"""What an estimate is worth, where it is quoted: by hand-worked numbers."""

import math

import pytest

from bsexp import results
from bsexp.report import summary, tables
from bsexp.report.certainty import certainty, doubt

TRACE, LARGEST = "hessian/trace/running", "hessian/lambda_max/running"


def records(name, *details):
    return [{name: {"values": {name: 1.0}, "detail": each}} for each in details]


def test_the_error_of_a_mean_is_the_root_of_the_sum_of_squares_over_n():
    points = records(TRACE, {"stderr": 3.0}, {"stderr": 4.0})
    assert certainty(points, TRACE) == {"stderr": 2.5}


def test_each_measure_of_a_record_has_an_error_of_its_own():
    rise, share = "flatness/adaptive_noise/batch", "hessian/negative_share/batch"
    point = {
        "flatness/batch": {
            "values": {rise: 1.0, "flatness/noise/batch": 2.0, "flatness/sam/batch": 3},
            "detail": {"adaptive_noise_stderr": 0.5, "noise_stderr": 0.1},
        },
        "hessian/density/batch": {
            "values": {share: 0.2},
            "detail": {"negative_share_stderr": 0.07},
        },
    }
    assert certainty([point], rise) == {"stderr": 0.5}
    assert certainty([point], "flatness/noise/batch") == {"stderr": 0.1}
    assert certainty([point], "flatness/sam/batch") == {}
    assert certainty([point, point], share)["stderr"] == pytest.approx(0.07 / 2**0.5)


def test_iterations_that_ended_early_are_counted():
    points = records(LARGEST, {"converged": True}, {"converged": False})
    assert certainty(points, LARGEST) == {"not_converged": 1}


def test_a_measure_that_is_not_estimated_says_nothing():
    assert certainty(records("test_loss", {}), "test_loss") == {}
    assert certainty([{}], TRACE) == {}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"mean": 4.0}, ""),
        ({"mean": math.nan}, ""),
        ({"mean": 4.0, "stderr": 1.0, "not_converged": 0}, ""),
        ({"mean": -4.0, "stderr": 1.2}, "known to 30 % only"),
        ({"mean": 4.0, "stderr": math.nan}, "of unknown error"),
        ({"mean": 4.0, "not_converged": 1}, "not converged"),
    ],
)
def test_a_quarter_of_the_value_is_the_most_that_goes_without_a_word(entry, words):
    assert doubt(entry) == words


def set_detail(study, group, name, **changes):
    for seed in range(3):
        file = study.run(group, seed) / "measurements.json"
        content = results.read_json(file)
        content["measurements"][name]["detail"].update(changes)
        results.write_json(file, content)


def test_the_answer_and_the_table_say_it(study):
    # The group's mean is 101, its error that of one seed over the root of 3.
    set_detail(study, "LB", TRACE, stderr=101.0 * math.sqrt(3) / 2)
    set_detail(study, "SB", LARGEST, converged=False)
    found = summary.summarise(study.path)
    assert (
        "trace of the Hessian 1.0 (running, LB known to 50 % only), 1.0 (batch); "
        "λ_max of the Hessian 1.0 (running, SB not converged)."
    ) in found["answer"]
    cells = {
        (row.label, row.mode): {name: cell.n for name, cell in row.cells.items()}
        for row in tables.rows(found)
        if "of the Hessian" in row.label
    }
    assert cells == {
        ("trace of the Hessian", "running"): {
            "SB": "3",
            "LB": "3, known to 50 % only",
        },
        ("trace of the Hessian", "batch"): {"SB": "3", "LB": "3"},
        ("λ_max of the Hessian", "running"): {
            "SB": "3, not converged",
            "LB": "3",
        },
    }
