"""The rule of the verdicts on numbers whose verdict is known, and the paper's tables beside ours."""

import dataclasses
import math

import pytest
from report.summaries import summary
from scipy import stats

from bsexp import keskar2017
from bsexp.report import counting, verdicts, welch

FLAT, SHARP = [1.0, 1.2, 0.8], [150.0, 170.0, 160.0]
PAPER = ((1.23, 0.83), (205.14, 69.52))


def judge(small, large, paper=PAPER, *, ratio_counts=True, stalled=(0, 0)):
    return verdicts.verdict(
        (small, large), paper, ratio_counts=ratio_counts, stalled=stalled
    )


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        (FLAT, SHARP, verdicts.BOTH),
        (FLAT, [20.0, 22.0, 21.0], verdicts.SAME),  # 21 times, the paper 167
        ([1.0, 1.0], [2.0, 300.0], verdicts.RATIO),  # 151 times, far from significant
        (SHARP, FLAT, verdicts.FAILED),  # significant the other way round
        (FLAT, [1.1, 0.9, 1.0], verdicts.FAILED),
        ([1.0], [160.0], verdicts.RATIO),  # one seed: no test
        ([1.0], [10.0], verdicts.UNKNOWN),
        ([1.0, 1.0], [10.0, 10.0], verdicts.UNKNOWN),  # no spread: no test
        ([], SHARP, verdicts.NOT_RUN),
        (FLAT, [], verdicts.NOT_RUN),
    ],
)
def test_the_verdict_on_phi_follows_the_stated_rule(small, large, expected):
    assert judge(small, large)[0] == expected


@pytest.mark.parametrize(
    ("small", "large", "stalled", "expected"),
    [
        (FLAT, SHARP, (0, 1), verdicts.SAME),  # LB is at least as sharp as that
        (FLAT, SHARP, (1, 0), verdicts.UNKNOWN),  # SB may be sharper than LB
        (FLAT, SHARP, (1, 1), verdicts.UNKNOWN),
        ([1.0, 1.0], [2.0, 300.0], (0, 1), verdicts.UNKNOWN),  # a ratio of bounds
        (FLAT, [1.1, 0.9, 1.0], (0, 3), verdicts.UNKNOWN),  # not that it is flat
        ([], SHARP, (0, 1), verdicts.NOT_RUN),
    ],
)
def test_a_search_that_stalled_bounds_phi_from_below_and_decides_no_more(
    small, large, stalled, expected
):
    assert judge(small, large, stalled=stalled)[0] == expected


@pytest.mark.parametrize(("factor", "near"), [(2.9, True), (3.1, False)])
def test_a_ratio_is_near_up_to_a_factor_of_three_either_way(factor, near):
    paper_ratio = PAPER[1][0] / PAPER[0][0]
    for ratio in (paper_ratio * factor, paper_ratio / factor):
        assert (judge([1.0], [ratio])[0] == verdicts.RATIO) == near


def test_the_direction_of_an_accuracy_is_the_papers_and_its_ratio_never_counts():
    better, worse = [0.982, 0.983, 0.984], [0.978, 0.977, 0.979]
    falls, rises = ((0.98, 0.0), (0.97, 0.0)), ((0.97, 0.0), (0.98, 0.0))
    assert judge(better, worse, falls, ratio_counts=False)[0] == verdicts.SAME
    assert judge(better, worse, rises, ratio_counts=False)[0] == verdicts.FAILED
    assert judge(worse, better, rises, ratio_counts=False)[0] == verdicts.SAME


def test_where_the_paper_has_no_difference_no_direction_can_be_told():
    equal = ((99.99, 0.04), (99.99, 0.01))
    assert judge(FLAT, SHARP, equal, ratio_counts=False)[0] == verdicts.UNKNOWN


def test_the_p_value_does_not_depend_on_the_unit():
    baseline, compared = [5.0, 6.0, 5.5], [1.0, 2.0, 1.5]
    small = welch.welch(*([1e-13 * v for v in each] for each in (baseline, compared)))
    assert small == pytest.approx(welch.welch(baseline, compared), rel=1e-9)
    assert math.isnan(welch.welch([1e6, 1e6 + 1e-9], [3.0, 3.0]))


def test_the_p_value_is_scipys_one_sided_welch_test():
    expected = stats.ttest_ind(SHARP, FLAT, equal_var=False, alternative="greater")
    assert judge(FLAT, SHARP)[1] == pytest.approx(expected.pvalue)


def test_searches_that_found_nothing_are_bounds_of_zero_and_stalled():
    """At one of SB's seeds neither search found a value, at one of LB's the paper's found none."""
    name = "sharpness/full/1e-3/batch"

    def row(small, large):
        found = summary(
            SB={name: [2.0, 2.0, small], f"{name}/lbfgsb": [1.0, 1.2, small]},
            LB={name: [210.0, 220.0, 230.0], f"{name}/lbfgsb": [200.0, 205.0, large]},
        )
        rows = [each for each in verdicts.rows("F1", found) if each.search == "lbfgsb"]
        return next(each for each in rows if each.verdict != verdicts.NOT_RUN)

    assert row(0.8, 195.0).verdict == verdicts.BOTH
    assert row(0.8, math.nan).verdict == verdicts.UNKNOWN
    assert row(math.nan, 195.0).verdict == verdicts.UNKNOWN


def test_a_search_that_stalled_is_marked():
    """LB's second search found no finite value at all, which is no better than the first one's 39 of 400."""
    name = "sharpness/full/1e-3/batch"
    found = summary(
        SB={name: [2.0, 2.0, 2.0], f"{name}/lbfgsb": [1.0, 0.21, 0.19]},
        LB={name: [400.0, 9.0, 150.0], f"{name}/lbfgsb": [39.0, math.nan, 150.0]},
    )
    rows = [row for row in verdicts.rows("F1", found) if row.search == "lbfgsb"]
    by_papers = next(row for row in rows if row.verdict != verdicts.NOT_RUN)
    assert [text.partition("(")[2] for text in by_papers.ours] == [
        "3, 1 stalled)",
        "3, 2 stalled)",
    ]
    assert by_papers.ours[1].startswith("63")  # the mean of 39, 0 and 150
    assert all("stalled" not in text for row in rows for text in row.paper)
    assert by_papers.verdict == verdicts.UNKNOWN
    shown = verdicts.with_the_better_search(list(verdicts.rows("F1", found)))
    assert [(row.search, row.label) for row in shown if row.table == 3] == [
        ("lbfgsb", "φ, ε = 1e-3"),
        ("best", "φ, ε = 1e-3"),
        ("lbfgsb", "φ, ε = 5e-4"),
    ]


def test_holms_correction_is_that_of_a_known_example():
    """Of 0.01, 0.02, 0.04 the bounds are 0.05 / 3, 0.05 / 2, 0.05; of 0.01, 0.03, 0.04 the second one fails."""
    (row, *_) = verdicts.rows("F1", None)

    def said(*p_values):
        return counting.corrected(
            [row, *(dataclasses.replace(row, p=p) for p in p_values)]
        )

    assert said() == ""
    assert said(0.04, 0.01, 0.02).startswith("Of the 3 tests of these pairs 3 are")
    assert "3 after Holm" in said(0.04, 0.01, 0.02)
    assert said(0.03, 0.04, 0.01).startswith("Of the 3 tests of these pairs 3 are")
    assert "1 after Holm" in said(0.03, 0.04, 0.01)
    assert "Of the 2 tests of these pairs 1 are" in said(0.5, 0.01)
    # Where SB's search stalled there is no test, however it would come out; where LB's did there is one.
    assert math.isnan(judge(FLAT, SHARP, stalled=(1, 0))[1])
    assert judge(FLAT, [1.1, 0.9, 1.0], stalled=(0, 3))[1] > 0.3


def test_a_network_with_one_group_has_one_row_a_cell():
    """SB is there in every way of measuring, LB in none: each cell was not run, once."""
    small = {
        f"{cell}{suffix}": [1.0]
        for cell in ("sharpness/full/1e-3/batch", "sharpness/full/1e-3/running")
        for suffix in ("", "/lbfgsb")
    }
    rows = list(verdicts.rows("F1", summary(SB=small, LB={})))
    assert len(rows) == 6 + 3
    chosen = verdicts.one_a_cell(rows)
    assert [row.table for row in chosen] == [2, 2, 3, 3, 4, 4]
    assert counting.counts(chosen) == "6 not run here"
    assert counting.counts_by_network(chosen, {}) == "6 not run here"


def test_verdicts_are_counted_for_each_network_apart():
    """One network that was trained to the end must not be counted with one that was not."""
    name = "sharpness/full/1e-3/batch/lbfgsb"
    both = summary(SB={name: [1.0, 1.1]}, LB={name: [200.0, 210.0]})
    rows = [
        *verdicts.rows("F1", both),
        *verdicts.rows("C1", both),
        *verdicts.rows("F2", None),
    ]
    said = counting.counts_by_network(
        verdicts.one_a_cell(rows),
        {"F1": "40 epochs, 5 seeds", "C1": "30 epochs, 3 seeds"},
    )
    assert said == (
        "F1 (40 epochs, 5 seeds): 1 same direction, ratio within a factor 3. "
        "C1 (30 epochs, 3 seeds): 1 same direction. 16 not run here"
    )


def test_every_pair_of_the_papers_cells_has_a_row_though_nothing_was_run():
    for network in keskar2017.NETWORKS:
        rows = list(verdicts.rows(network, None))
        assert [row.table for row in rows] == [2, 2, 3, 3, 4, 4]
        assert {row.verdict for row in rows} == {verdicts.NOT_RUN}
    first = next(iter(verdicts.rows("C2", None)))
    assert first.paper == ("99.99 ± 0.04", "99.99 ± 0.01")


def test_each_way_of_measuring_has_its_own_row_and_the_papers_is_marked():
    name = "sharpness/full/1e-3"
    small = {f"{name}/batch/lbfgsb": FLAT, f"{name}/batch": FLAT}
    large = {f"{name}/batch/lbfgsb": SHARP, f"{name}/batch": [9.0, 9.5, 8.5]}
    rows = [
        row
        for row in verdicts.rows("F1", summary(SB=small, LB=large))
        if row.verdict != verdicts.NOT_RUN
    ]
    assert [(row.mode, row.search, row.closest) for row in rows] == [
        ("batch", "lbfgsb", True),
        ("batch", "best", False),
    ]
    assert [row.verdict for row in rows] == [verdicts.BOTH, verdicts.SAME]
    assert rows[0].ours == ("1.00 ± 0.20 (3)", "160 ± 10 (3)")
    assert rows[0].ratios == ("167", "160")


def test_a_published_value_from_a_single_transcription_is_marked():
    marked = {
        (network, row.label, text)
        for network in keskar2017.NETWORKS
        for row in verdicts.rows(network, None)
        for text in row.paper
        if text.endswith("†")
    }
    assert marked == {
        ("F1", "φ, ε = 5e-4", "9.17 ± 0.14 †"),
        ("F2", "φ, ε = 1e-3", "23.63 ± 0.54 †"),
    }


def test_accuracies_are_shown_in_per_cent_like_the_papers():
    values = {"test_accuracy": [0.98, 0.981]}
    row = next(
        row
        for row in verdicts.rows("F1", summary(SB=values, LB=values))
        if row.verdict != verdicts.NOT_RUN
    )
    assert (row.paper[0], row.ours[0]) == ("98.03 ± 0.07", "98.050 ± 0.071 (2)")


def test_a_study_that_the_paper_has_not_is_tested_but_gets_no_verdict_of_the_paper():
    small = {"test_accuracy": [0.9, 0.91], "sharpness/full/1e-3/batch": FLAT}
    large = {"test_accuracy": [0.8, 0.81], "sharpness/full/1e-3/batch": SHARP}
    trained = {"train_accuracy": [0.9, 0.91]}
    (training,) = verdicts.rows_beyond(summary(SB=trained, LB=trained), "other")
    assert (training.verdict, training.p_value) == ("not tested", "")
    accuracy, sharpness = verdicts.rows_beyond(summary(SB=small, LB=large), "other")
    assert (accuracy.verdict, sharpness.verdict) == ("SB better", "LB sharper")
    assert accuracy.paper == sharpness.paper == ("", "")
    swapped = list(verdicts.rows_beyond(summary(SB=large, LB=small), "other"))
    assert not {row.verdict for row in swapped} & set(verdicts.VERDICTS)
    assert {row.verdict for row in swapped} == {"no significant difference that way"}
