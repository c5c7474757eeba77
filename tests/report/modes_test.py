"""What is said of the batch-norm mode, on numbers for which it is known."""

from report.summaries import summary

from bsexp.report import counting, modes, verdicts

FLAT, SHARP = [1.0, 1.2, 0.8], [150.0, 170.0, 160.0]


def test_how_much_the_mode_matters_is_computed_from_the_means():
    name = "sharpness/full/1e-3"
    small = {f"{name}/running": [20.0, 40.0], f"{name}/batch": [3.0]}
    large = {f"{name}/running": [3000.0], f"{name}/batch": [60.0]}
    small |= {"test_accuracy": [0.98], "test_accuracy/batch": [0.977]}
    other = {f"sharpness/full/5e-4/{mode}": [4.0] for mode in ("running", "batch")}
    said = modes.of_numbers(
        {
            "F1": summary(SB=small, LB=large),
            "C1": summary(SB=small | other, LB=large | other),
        }
    )
    # And below 1 where it is smaller: no word says which of the two is larger.
    assert "larger" not in said.replace("larger of both", "")
    assert ": 10 at SB, 50 at LB of F1; 1.0 to 10 at SB, 1.0 to 50 at LB of C1." in said
    assert (
        "LB / SB is 100 with running averages, 20 with statistics of the batch of F1; "
        "1.0 to 100 with running averages, 1.0 to 20 with" in said
    )
    assert "changes by at most 0.30 points" in said
    nothing = modes.of_numbers({"F1": {}})
    assert nothing == "No φ has been measured in both batch-norm modes yet."


def test_verdicts_that_depend_on_the_mode_are_counted():
    name = "sharpness/full/1e-3"
    small = {f"{name}/running": FLAT, f"{name}/batch": FLAT}
    large = {f"{name}/running": SHARP, f"{name}/batch": FLAT}
    rows = list(verdicts.rows("F1", summary(SB=small, LB=large)))
    assert "in 1 of 1 pairs" in modes.of_verdicts(rows)
    assert counting.counts(rows) == (
        "1 same direction, ratio within a factor 3; 1 not reproduced; 5 not run here"
    )
