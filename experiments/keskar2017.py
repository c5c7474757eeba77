"""What does a reader find who runs the paper's studies again: its tables and figures with ours beside them, cell by cell?

Source: Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning: Generalization Gap and
Sharp Minima", ICLR 2017, arXiv:1609.04836; Tables 2 to 4 and Figures 2 to 7.

A collection: its studies are run one after the other, each in a folder of its own below results/keskar2017, and one report,
results/keskar2017/report.html, says for every pair of cells whether it was reproduced, by a rule that stands on it. What is there
is reused, so that with the committed results the command trains nothing; a run that several studies have is trained by the
first of them that keeps the states which the others measure. Cifar10, fashion_mnist, timit_like and
cifar100_like are prepared with scripts/prepare_data.py; a study whose data set is not there is listed as not run here, and so
are the networks that two CPU cores would train for hours or days, with the estimate.

    python -m bsexp.main --config=experiments/keskar2017.py          17 hours on two CPU cores, in all; --dry_run estimates each study
    python -m bsexp.main --config=experiments/keskar2017.py:full     with F2, C2, C3 and C4: for an accelerator
    python -m bsexp.main --config=experiments/keskar2017.py:smoke    does it run here?
"""

from ml_collections import ConfigDict

STUDIES = (
    "sharp_minima:F1",
    "sharp_minima:C1",
    "batch_size_sweep",
    "sharp_minima:F1_fashion",
    "sharpness_along_training",
    "warm_start",
    "remedies",
    "fixes",
    "invariance",
    "sharp_minima:F2_like",
    "sharp_minima:C2_small",
    "sharp_minima:C3_like",
    "sharp_minima:C4_like",
)
LONG = ("sharp_minima:F2", "sharp_minima:C2", "sharp_minima:C3", "sharp_minima:C4")


def get_config(arg: str = "") -> ConfigDict:
    """Return the collection; ``arg`` is empty, ``full`` or ``smoke``."""
    if arg not in {"", "full", "smoke"}:
        raise ValueError(f"unknown argument {arg!r}; valid: full, smoke")
    config = ConfigDict()
    config.question = "Do large batches find sharper minima that generalise worse: the paper's tables, cell by cell"
    config.source = "Keskar et al. 2017, arXiv:1609.04836"
    config.studies = STUDIES
    config.estimated = LONG
    if arg == "full":
        config.studies, config.estimated = (*STUDIES, *LONG), ()
    if arg == "smoke":
        names = dict.fromkeys(name.partition(":")[0] for name in STUDIES)
        config.studies = tuple(f"{name}:smoke" for name in names)
        config.estimated = ()
    return config
