"""The configuration: what a study may set, its defaults, and a run's identity.

Every field is written down once, here, with its meaning, unit, default and bound. `door`
turns settings into these frozen dataclasses; the rest of bsexp only ever sees the result.
"""

from bsexp.config.examples import Augmentation, Data
from bsexp.config.measure import (
    FEWEST_TRACE_PROBES,
    Along,
    Density,
    Flatness,
    Hessian,
    Invariance,
    Measure,
    NoiseScale,
    Path,
    Sharpness,
)
from bsexp.config.option import identity_fields
from bsexp.config.study import Base, Reference, Run, Study
from bsexp.config.training import Execution, Start, Train
from bsexp.config.update import (
    DECAY_ARGUMENTS,
    MASK_ARGUMENTS,
    Batch,
    Model,
    Optimizer,
    Robust,
    Scaling,
    Schedule,
)

__all__ = [
    "DECAY_ARGUMENTS",
    "FEWEST_TRACE_PROBES",
    "MASK_ARGUMENTS",
    "Along",
    "Augmentation",
    "Base",
    "Batch",
    "Data",
    "Density",
    "Execution",
    "Flatness",
    "Hessian",
    "Invariance",
    "Measure",
    "Model",
    "NoiseScale",
    "Optimizer",
    "Path",
    "Reference",
    "Robust",
    "Run",
    "Scaling",
    "Schedule",
    "Sharpness",
    "Start",
    "Study",
    "Train",
    "identity_fields",
]
