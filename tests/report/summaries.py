"""Summaries made by hand."""

from bsexp.report.summary import statistics


def summary(**groups):
    """A summary in which every measure named has these values, one a seed: SB={"name": [..]}."""
    return {
        "groups": {
            name: {"batch_size": 1}
            | {
                measure: statistics(list(enumerate(values)))
                for measure, values in measures.items()
            }
            for name, measures in groups.items()
        }
    }
