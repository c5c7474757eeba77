"""Accuracy and sharpness against the batch size: known thresholds, and which studies have them."""

import math

import numpy as np
import pytest

from bsexp import config, conversion, report, results
from bsexp.report import batch_sizes, folder, sizes, summary

SIZES = (16, 256, 4_000)
ACCURACY = {16: 0.97, 256: 0.98, 4_000: 0.95}
SHARPNESS = {16: 1.0, 256: 1.05, 4_000: 80.0}
SPREAD = (-0.01, 0.0, 0.01)  # relative, by seed


@pytest.fixture
def swept(study):
    """The artificial study as one of three batch sizes, three seeds each, with values known by heart."""
    runs = []
    for (group, seed), size in zip(study.runs, [16, 256] * 3, strict=True):
        runs.append((study.run(group, seed), size, seed))
    for seed in range(3):
        place = study.path / "runs" / f"large-{seed}"
        place.mkdir()
        for file in study.run("LB", seed).glob("*.json*"):
            (place / file.name).write_bytes(file.read_bytes())
        runs.append((place, 4_000, seed))
    for place, size, seed in runs:
        factor = 1 + SPREAD[seed]
        values = {
            "test_accuracy": ACCURACY[size] * (1 + SPREAD[seed] / 10),
            "sharpness/full/1e-3/running": SHARPNESS[size] * factor,
        }
        found = {
            name: {
                "settings": {},
                "values": {name: value},
                "detail": {},
                "seconds": 1.0,
            }
            for name, value in values.items()
        }
        results.write_points(place, {None: found})
    study.study(
        comparison=None,
        reference={},
        config={"groups": {f"B{size}": {"batch": {"size": size}} for size in SIZES}},
        runs=[
            {"run": place.name, "group": f"B{size}", "seed": seed, "batch_size": size}
            for place, size, seed in runs
        ],
    )
    return study


def test_the_thresholds_are_where_the_rule_puts_them(swept):
    said = list(batch_sizes.thresholds(folder.read(swept.path)))
    assert said == [
        "Test accuracy, %, batch norm: running averages: highest, 98, at 256; significantly lower at 16 and 4,000.",
        "φ, full space, ε = 1e-3, batch norm: running averages: 256 is the smallest batch size significantly above 16, and all larger ones are; the rise is steepest from 256 to 4,000, 3.0 times a doubling.",
    ]
    assert summary.summarise(swept.path)["answer"].endswith(" ".join(said))


def test_sizes_that_cannot_be_tested_are_told_apart():
    """A sweep that was interrupted in its second seed, small sizes first."""
    three = [1.0, 1.1, 0.9]
    large = {16: three, 256: [9.0, 10.0, 11.0], 4_000: [0.5]}
    assert batch_sizes._sharpness(large, all_there=True) == (
        "256 is the smallest batch size significantly above 16; of one seed, or of seeds without any spread, at 4,000; "
        "the rise is steepest from 16 to 256, 1.8 times a doubling"
    )
    between = {16: three, 256: [9.0], 1_024: [9.0, 10.0, 11.0]}
    assert "of seeds without any spread, at 256;" in batch_sizes._sharpness(
        between, all_there=True
    )


def test_a_size_of_which_every_run_diverged_is_named_and_is_not_among_all_larger_ones(
    swept,
):
    for seed in range(3):
        place = swept.path / "runs" / f"large-{seed}"
        (place / "measurements.json").unlink()
        failed = {"state": "failed", "diverged": True, "reason": "the loss is nan"}
        results.write_json(place / "status.json", failed)
    swept.study(
        runs=[
            *results.read_json(swept.path / "study.json")["runs"],
            {"run": "huge-0", "group": "B9000", "seed": 0, "batch_size": 9_000},
        ]
    )
    said = list(batch_sizes.thresholds(folder.read(swept.path)))
    assert said == [
        "Test accuracy, %, batch norm: running averages: highest, 98, at 256; significantly lower at 16; without a value at 4,000 and 9,000.",
        "φ, full space, ε = 1e-3, batch norm: running averages: 256 is the smallest batch size significantly above 16; the rise is steepest from 16 to 256, 1.0 times a doubling; without a value at 4,000 and 9,000.",
    ]
    lost = "; ".join(f"B4000, seed {seed} (diverged)" for seed in range(3))
    answer = summary.summarise(swept.path)["answer"]
    assert answer == " ".join([f"Without any number: {lost}.", *said])


def test_a_best_or_a_smallest_size_without_spread_does_not_hide_what_the_others_show():
    # scipy.stats.ttest_ind, one-sided: 3.4e-05 and 5.8e-06.
    accuracy = {16: [97.0] * 3, 256: [90.0, 90.1, 89.9], 4_000: [80.0, 80.1, 79.9]}
    assert batch_sizes._accuracy(accuracy) == (
        "highest, 97, at 16; significantly lower at 256 and 4,000"
    )
    assert batch_sizes.largest_without_loss(accuracy) == 16
    sharpness = {16: [1.0] * 3, 256: [2.0, 2.1, 1.9], 4_000: [4.0, 4.1, 3.9]}
    said = batch_sizes._sharpness(sharpness, all_there=True)
    assert said.startswith("256 is the smallest batch size significantly above 16, and all larger ones are;")  # fmt: skip
    # Of one seed each, all but the first decide nothing.
    single = {16: [1.0, 1.1, 0.9], 256: [9.0], 4_000: [9.0]}
    assert batch_sizes._sharpness(single, all_there=True).endswith("cannot tell where it rises")  # fmt: skip


def test_the_level_of_both_tests_is_five_percent():
    # scipy.stats.ttest_ind, one-sided: 0.032, 0.075 and 0.052.
    above = {1: [1.0, 1.3, 0.7], 2: [3.0, 2.0, 4.0]}
    assert batch_sizes.smallest_above_first({**above, 1: [-1.0, -0.7, -1.3], 2: [1.0, 0.0, 2.0]}) == 2  # fmt: skip
    for best, other in (([2.4, 2.0, 2.8], [1.9, 1.7, 2.1]), ([2.2, 2.0, 2.4], [2, 1.8, 1.9])):  # fmt: skip
        assert batch_sizes._accuracy({1: best, 2: other}).endswith("not significantly lower at 2")  # fmt: skip
    assert batch_sizes._accuracy({1: above[2], 2: above[1]}).endswith("; significantly lower at 2")  # fmt: skip


def test_an_unfinished_sweep_is_called_so(swept):
    said = summary.summarise(swept.path)["answer"]
    assert "So far" not in said
    swept.study(finished=None)
    assert summary.summarise(swept.path)["answer"] == (
        f"So far, with the study unfinished: {said}"
    )


def test_the_hessian_is_told_beside_which_need_not_follow_sharpness(swept):
    plain = list(batch_sizes.thresholds(folder.read(swept.path)))
    name = "hessian/trace/running"
    for runs in folder.read(swept.path).groups.values():
        for run, factor in zip(runs, (0.5, 1.0, 1.5), strict=True):
            trace = {16: 3.0, 256: 1.5, 4_000: 2.0}[run.batch_size] * factor
            detail = {"stderr": {16: 0.1, 256: 1.5, 4_000: 0.1}[run.batch_size]}
            found = {"settings": {}, "values": {name: trace}, "detail": detail}
            points = results.points(swept.path / "runs" / run.name)
            results.write_points(
                swept.path / "runs" / run.name, {None: {**points[None], name: found}}
            )
    assert list(batch_sizes.thresholds(folder.read(swept.path))) == [
        *plain,
        "Beside φ, trace of the Hessian, batch norm: running averages: lowest, 1.5, at 256 (known to 58 % only); highest, 3, at 16.",
    ]


def test_what_changes_no_number_or_is_chosen_for_a_size_leaves_the_curve(swept):
    def said(large):
        groups = {f"B{size}": {"batch": {"size": size}} for size in SIZES}
        groups["B4000"] = {**groups["B4000"], **large}
        swept.study(config={"groups": groups})
        return list(batch_sizes.thresholds(folder.read(swept.path)))

    plain = said({})
    assert plain
    assert said({"batch": {"size": 4_000, "microbatch": 1_000}}) == plain
    assert said({"optimizer": {"learning_rate": 4e-3}}) == [
        "The batch sizes also differ in optimizer.learning_rate.",
        *plain,
    ]
    assert said({"optimizer": {"name": "sgd"}}) == []


def test_the_validation_split_chooses_where_there_is_one(swept):
    plain = list(batch_sizes.thresholds(folder.read(swept.path)))
    for place in (swept.path / "runs").iterdir():
        points = results.points(place)
        (tested,) = points[None]["test_accuracy"]["values"].values()
        kept = {"settings": {}, "values": {"validation_accuracy": 1 - tested}, "detail": {}}  # fmt: skip
        results.write_points(place, {None: {**points[None], "validation_accuracy": kept}})  # fmt: skip
    first, *others = batch_sizes.thresholds(folder.read(swept.path))
    assert first.startswith("Validation accuracy, %, batch norm: running averages: highest, 5, at 4,000; ")  # fmt: skip
    assert others == plain


def test_the_fields_that_change_no_number_are_those_that_do_not_enter_a_name():
    listed = {
        path.removeprefix("config."): field
        for path, field in conversion.valid_fields(config.Base)
    }
    fields = {path for path, each in listed.items() if not each.metadata["identity"]}
    assert {*sizes.WITHOUT_NUMBERS} == fields
    assert {*sizes.TUNED} <= listed.keys() - fields


def test_thresholds_of_curves_known_by_heart():
    seeds = np.array([-0.1, 0.0, 0.1])
    flat = {size: list(1 + seeds) for size in SIZES}
    assert batch_sizes.largest_without_loss(flat) == 4_000
    assert batch_sizes.smallest_above_first(flat) is None
    falling = {16: list(3 + seeds), 256: list(2 + seeds), 4_000: list(1 + seeds)}
    assert batch_sizes.largest_without_loss(falling) == 16
    rising = {16: list(1 + seeds), 256: list(1.1 + seeds), 4_000: list(9 + seeds)}
    assert batch_sizes.smallest_above_first(rising) == 4_000
    single = {size: [float(size)] for size in SIZES}
    assert batch_sizes.largest_without_loss(single) is None
    assert batch_sizes.smallest_above_first(single) is None
    assert batch_sizes._sharpness(single, all_there=True).endswith(
        "cannot tell where it rises"
    )
    # A size with one seed left decides nothing, and one in between does not go unsaid.
    lost = {16: list(3 + seeds), 256: list(2.9 + seeds), 4_000: [1.0]}
    assert batch_sizes.largest_without_loss(lost) == 256
    between = {16: list(2 + seeds), 256: list(3 + seeds), 4_000: list(2.9 + seeds)}
    assert batch_sizes._accuracy(between) == (
        "highest, 3, at 256; not significantly lower at 4,000; significantly lower at 16"
    )
    assert batch_sizes._accuracy(lost).endswith(
        "; of one seed, or of seeds without any spread, at 4,000"
    )
    falls_again = {16: list(1 + seeds), 256: list(9 + seeds), 4_000: list(1 + seeds)}
    assert batch_sizes._sharpness(falls_again, all_there=True) == (
        "256 is the smallest batch size significantly above 16; of the larger ones 4,000 is not; the rise is steepest from 16 to 256, 1.7 times a doubling"
    )
    # Every seed a hundred times higher, one of them a thousand: the plain test has p = 0.2, for its spread.
    apart = {
        16: [1.0, 1.1, 0.9],
        256: [100.0, 110.0, 1_000.0],
        4_000: [90.0, 80.0, 99.0],
    }
    assert batch_sizes.smallest_above_first(apart) == 256
    negative = {**apart, 16: [-1.0, 1.1, 0.9]}
    assert batch_sizes.smallest_above_first(negative) == 4_000
    # 4 times over two doublings is less a doubling than 3 times over one.
    uneven = {1: list(1 + seeds), 4: list(4 + seeds), 8: list(12 + seeds)}
    assert batch_sizes._steepest(uneven) == (4, 8, pytest.approx(3))
    unmeasured = {1: [0.0], 4: [0.0]}
    assert math.isnan(batch_sizes._steepest(unmeasured)[2])


def test_the_figure_shows_means_over_a_logarithmic_axis(swept):
    drawn = batch_sizes.batch_sizes(folder.read(swept.path))
    accuracy, sharpness = drawn.axes
    assert accuracy.get_xscale() == sharpness.get_xscale() == "log"
    lines = [np.asarray(axes.get_lines()[0].get_xydata(), float) for axes in drawn.axes]
    np.testing.assert_allclose(lines[0].T, [SIZES, [97, 98, 95]])
    np.testing.assert_allclose(lines[1].T, [SIZES, [1, 1.05, 80]])


def test_the_page_has_the_figure_and_its_thresholds(swept):
    report.build(swept.path)
    page = (swept.path / "report.html").read_text()
    assert 'id="figure-batch_sizes"' in page
    assert "highest, 98, at 256; significantly lower at 16 and 4,000" in page


@pytest.mark.parametrize(
    "groups",
    [
        {"B16": {"batch": {"size": 16}}, "B256": {"batch": {"size": 256, "ghost": 16}}},
        {"B16": {"batch": {"size": 16}}, "B256": {"optimizer": {"name": "sgd"}}},
        {"B16": {}},
    ],
)
def test_groups_that_differ_in_more_have_no_such_figure(swept, groups):
    swept.study(config={"groups": groups})
    study = folder.read(swept.path)
    assert batch_sizes.batch_sizes(study) is None
    assert list(batch_sizes.thresholds(study)) == []


def test_two_sizes_are_no_curve(study):
    groups = {"SB": {"batch": {"size": 100}}, "LB": {"batch": {"size": 1_000}}}
    study.study(config={"groups": groups})
    assert batch_sizes.batch_sizes(folder.read(study.path)) is None
