"""The table's digits, order and gaps."""

import io

import pytest
from rich.console import Console

from bsexp import results
from bsexp.report import summary, tables
from bsexp.report.measures import describe

TIMES, DASH = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (98.1234, 0.0712, "98.123 ± 0.071"),
        (3523.4, 118.2, "3520 ± 120"),
        (205.14, 69.52, "205 ± 70"),
        (1.23456, 0.0, "1.235 ± 0.000"),
        (0.0, 0.0, "0 ± 0"),
        (12.3456, float("nan"), "12.35"),
        (2.08e-5, 1.1e-5, f"(2.1 ± 1.1) {TIMES} 10⁻⁵"),
        (1.5e7, float("nan"), f"1.500 {TIMES} 10⁷"),
        (-0.25, 0.013, "-0.250 ± 0.013"),
        (100.0, 1e-13, "100.000 ± 0.000"),
        (float("nan"), float("nan"), DASH),
    ],
)
def test_spread_has_two_digits_of_the_std(mean, std, text):
    assert tables.spread(mean, std) == text


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (98.03, 0.07, "98.03 ± 0.07"),
        (42.9, 17.14, "42.90 ± 17.14"),
        (0.11, float("nan"), "0.11"),
    ],
)
def test_the_paper_is_quoted_with_its_own_digits(mean, std, text):
    assert tables.quoted(mean, std) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (3.4e-7, "3.4e-07"),
        (0.00099, "0.00099"),
        (0.123, "0.12"),
        (0.4999, "0.50"),
        (1.0, "1.0"),
        (9.96, "10"),
        (99.4, "99"),
        (99.7, "100"),
        (1234.5, "1234"),
        (0.0, "0"),
    ],
)
def test_a_ratio_has_two_digits_or_all_before_the_point(ratio, text):
    assert tables.times(ratio) == text


def rows(study):
    return {
        (row.label, row.mode): row for row in tables.rows(summary.summarise(study.path))
    }


def test_accuracies_are_in_per_cent_beside_the_papers(study):
    study.measure("test_accuracy", "SB", {0: 0.980, 1: 0.981, 2: 0.982})
    row = rows(study)["Test accuracy, %", "running"]
    assert row.cells["SB"] == tables.Cell("98.10 ± 0.10", "3", "98.03 ± 0.07")
    assert row.contrast == ""


def test_a_null_lowers_n_and_says_so(study):
    study.measure("sharpness/full/1e-3/batch", "LB", {1: None})
    row = rows(study)["φ, full space, ε = 1e-3", "batch"]
    assert row.cells["LB"].n == "2 of 3"
    assert row.cells["LB"].paper == "205.14 ± 69.52"
    assert row.contrast == f"{TIMES} 300.0 ± 0.0 (2 of 3)"


def test_the_contrast_is_the_mean_of_the_ratios_with_their_spread(study):
    study.measure("distance_from_start", "SB", dict.fromkeys(range(3), 10.0))
    study.measure("distance_from_start", "LB", {0: 10.0, 1: 20.0, 2: 30.0})
    row = next(each for each in rows(study).values() if each.section == "Distance")
    assert row.contrast == f"{TIMES} 2.0 ± 1.0"


def test_one_seed_has_no_spread(make):
    cell = rows(make(1))["Test accuracy, %", "running"].cells["LB"]
    assert (cell.value, cell.n) == ("97.00", "1")


def test_rows_go_from_accuracy_to_distance_with_running_before_batch(study):
    listed = tables.rows(summary.summarise(study.path))
    sections = list(dict.fromkeys(row.section for row in listed))
    assert sections == ["Accuracy", "Loss", "Sharpness φ", "Hessian", "Distance"]
    accuracy = [
        (row.label.split()[0], row.mode) for row in listed if row.section == "Accuracy"
    ]
    assert accuracy == [
        ("Training", "running"),
        ("Test", "running"),
        ("Training", "batch"),
        ("Test", "batch"),
    ]


def test_an_unknown_measure_keeps_its_name():
    measure = describe("noise_scale/simple")
    assert (measure.section, measure.label) == ("Other", "noise_scale/simple")


def test_a_measure_that_one_group_lacks_is_a_dash(study):
    study.study(reference={})
    for seed in range(3):
        (study.run("LB", seed) / "measurements.json").unlink()
    cells = rows(study)["Test accuracy, %", "running"].cells
    assert cells["LB"] == tables.Cell(DASH, "0", "")
    assert cells["SB"].n == "3"


def test_the_terminal_shows_every_row_and_takes_names_literally(study):
    study.study(question="[red]is it sharp?[/red]")
    console = Console(file=io.StringIO(), width=200)
    found = summary.summarise(study.path)
    tables.print_table(found, console)
    text = console.file.getvalue()
    assert "[red]is it sharp?[/red]" in text
    assert all(row.cells["LB"].value in text for row in tables.rows(found))
    assert "205.14 ± 69.52" in text


def test_groups_that_do_not_fit_side_by_side_stand_below_each_other():
    """No number is broken, and the compared two stay together also where they hardly fit."""
    digits = {"mean": 0.98765, "std": 0.0012, "n": 3, "values": [1, 1, 1]}
    names = [f"B{size:05d}" for size in (16, 64, 256, 1_000, 4_000)]
    found = {
        "question": "From which size on?",
        "answer": "None.",
        "groups": {
            name: {"batch_size": int(name[1:]), "test_accuracy": digits}
            for name in names
        },
        "runs_by_group": dict.fromkeys(names, 3),
        "pairs": {},
    }
    for width, tables_wanted in ((76, 3), (95, 2), (200, 1)):
        console = Console(file=io.StringIO(), width=width)
        tables.print_table(found, console)
        text = console.file.getvalue()
        assert text.count("Test accuracy") == tables_wanted, text
        assert text.count("98.77 ± 0.12 (3)") == len(names)
        assert all(f"{name}," in text for name in names)
    for name in names[2:]:
        del found["groups"][name]
    found["pairs"] = {"B00064/B00016": {"ratio/test_accuracy": {**digits, "mean": 2.5}}}
    console = Console(file=io.StringIO(), width=70)
    tables.print_table(found, console)
    assert console.file.getvalue().count("measure") == 1


def test_a_study_without_any_number_is_printed(study):
    """All its runs failed, say, and nothing is published beside them."""
    for group, seed in study.runs:
        results.write_points(study.run(group, seed), {None: {}})
    study.study(reference={})
    printed = io.StringIO()
    found = summary.summarise(study.path)
    tables.print_table(found, Console(file=printed, width=200))
    assert found["question"] in printed.getvalue()
