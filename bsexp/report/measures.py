"""What a measure's name means: its section, label, unit, and the place of its row."""

from collections.abc import Iterable
from dataclasses import dataclass

SECTIONS = (
    "Accuracy",
    "Loss",
    "Target",
    "Sharpness φ",
    "Rise of the loss",
    "Hessian",
    "Gradient noise scale",
    "Next update",
    "Distance",
    "Other",
)
MODES = {"running": "running averages", "batch": "statistics of the batch"}
SEARCHES = {"lbfgsb": "L-BFGS-B", "sign_ascent": "sign ascent"}
# What comes closest to the paper's measurements: its released code normalises like this for accuracies, its search was this one.
PAPERS_MODE, PAPERS_SEARCH = "batch", "lbfgsb"
STALLED = (
    0.1  # of what sign ascent found: less says that L-BFGS-B hardly left the point
)

_PLAIN = {
    "train_accuracy": ("Accuracy", "Training accuracy", "%", 100.0),
    "validation_accuracy": ("Accuracy", "Validation accuracy", "%", 100.0),
    "test_accuracy": ("Accuracy", "Test accuracy", "%", 100.0),
    "train_loss": ("Loss", "Training loss", "nats", 1.0),
    "validation_loss": ("Loss", "Validation loss", "nats", 1.0),
    "test_loss": ("Loss", "Test loss", "nats", 1.0),
}
_WHOLE = {
    "distance_from_start": (
        "Distance",
        "distance from the start ‖x \N{MINUS SIGN} x₀‖",
    ),
    "target/epoch": ("Target", "epochs to the target, of runs that reached it"),
    "target/step": ("Target", "updates to the target, of runs that reached it"),
    "target/examples": ("Target", "examples to the target, of runs that reached it"),
    "target/seconds": ("Target", "seconds to the target, of runs that reached it"),
    "update/learning_rate": ("Next update", "learning rate η"),
    "update/stability_limit": ("Hessian", "λ_max up to which training is stable"),
    "update/preconditioned_limit": (
        "Hessian",
        "λ_max as Adam sees it up to which training is stable",
    ),
}
# Family of measures in one mode each -> section, unit, and its kinds in words.
_FAMILIES = {
    "hessian": (
        "Hessian",
        "",
        {
            "trace": "trace of the Hessian",
            "lambda_max": "λ_max of the Hessian",
            "preconditioned": "λ_max of the Hessian as Adam sees it, P^-½ H P^-½",
            "negative_share": "share of Σ|λ| that is negative",
        },
    ),
    "flatness": (
        "Rise of the loss",
        "nats",
        {
            "sam": "largest in SAM's ball",
            "m_sharpness": "largest in SAM's ball, mean over groups (m-sharpness)",
            "adaptive": "largest in the ball relative to |x| (adaptive)",
            "noise": "mean under noise",
            "adaptive_noise": "mean under noise relative to |x| (adaptive)",
        },
    ),
    "noise_scale": (
        "Gradient noise scale",
        "examples",
        {
            "simple": "B_simple = tr Σ / |G|²",
            "curved": "B_noise = tr HΣ / GᵀHG",
        },
    ),
    "update": (
        "Next update",
        "",
        {
            "gradient_norm": "norm of the gradient ‖∇f‖",
            "update_norm": "norm of the update ‖Δx‖",
        },
    ),
}
_SPACES = {"full": "full space", "subspace": "random subspace"}


@dataclass(frozen=True)
class Measure:
    """A measure in words; a value times ``scale`` is in ``unit``."""

    name: str
    section: str
    label: str
    unit: str = ""
    scale: float = 1.0
    mode: str = ""

    @property
    def order(self) -> tuple:
        """Sorting key of its row: section, training before validation before test, running before batch."""
        kind = (
            list(_PLAIN).index(self.name.split("/")[0])
            if self.name.split("/")[0] in _PLAIN
            else 0
        )
        return (
            SECTIONS.index(self.section),
            [*MODES, ""].index(self.mode),
            kind,
            self.name,
        )


def full_sharpness(names: Iterable[str]) -> list[str]:
    """Return Keskar's φ in the full space among measures, the larger of both searches, by falling radius, without their modes."""
    found = {
        name.rpartition("/")[0]
        for name in names
        if name.startswith("sharpness/full/") and name.endswith(tuple(MODES))
    }
    return sorted(found, key=lambda name: -float(name.rpartition("/")[2]))


def in_mode(measure: str, mode: str) -> str:
    """Return the name of an accuracy, a loss or a measure of every mode in one mode."""
    plain = measure in _PLAIN and mode == "running"
    return measure if plain else f"{measure}/{mode}"


def is_known(name: str) -> bool:
    """Say whether a name is that of a measure."""
    return describe(name).section != "Other"


def describe(name: str) -> Measure:
    """Explain a measure's name; a name that is not known keeps itself as label, in the section Other."""
    match name.split("/"):
        case [plain] if plain in _PLAIN:
            return Measure(name, *_PLAIN[plain], mode="running")
        case [plain, mode] if plain in _PLAIN and mode in MODES:
            return Measure(name, *_PLAIN[plain], mode=mode)
        case ["sharpness", space, epsilon, mode] if mode in MODES and space in _SPACES:
            label = f"φ, {_SPACES[space]}, ε = {epsilon}"
            return Measure(name, "Sharpness φ", label, mode=mode)
        case ["sharpness", space, epsilon, mode, search] if (
            mode in MODES and search in SEARCHES and space in _SPACES
        ):
            place = "" if space == "full" else f", {_SPACES[space]}"
            label = f"φ by {SEARCHES[search]} alone{place}, ε = {epsilon}"
            return Measure(name, "Sharpness φ", label, mode=mode)
        case [family, kind, mode] if (
            mode in MODES and family in _FAMILIES and kind in _FAMILIES[family][2]
        ):
            title, unit, kinds = _FAMILIES[family]
            return Measure(name, title, kinds[kind], unit, mode=mode)
        case _ if name in _WHOLE:
            return Measure(name, *_WHOLE[name])
    return Measure(name, "Other", name)
