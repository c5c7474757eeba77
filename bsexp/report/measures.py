"""What a measure's name means: its section, label, unit, and the place of its row."""

from dataclasses import dataclass

SECTIONS = ("Accuracy", "Loss", "Sharpness φ", "Hessian", "Distance", "Other")
MODES = {"running": "running averages", "batch": "statistics of the batch"}
SEARCHES = {"lbfgsb": "L-BFGS-B", "sign_ascent": "sign ascent"}

_PLAIN = {
    "train_accuracy": ("Accuracy", "Training accuracy", "%", 100.0),
    "test_accuracy": ("Accuracy", "Test accuracy", "%", 100.0),
    "train_loss": ("Loss", "Training loss", "nats", 1.0),
    "test_loss": ("Loss", "Test loss", "nats", 1.0),
}
_HESSIAN = {"trace": "trace of the Hessian", "lambda_max": "λ_max of the Hessian"}


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
        """Sorting key of its row: section, training before test, running before batch."""
        kind = (
            list(_PLAIN).index(self.name.split("/")[0])
            if self.unit in ("%", "nats")
            else 0
        )
        return (
            SECTIONS.index(self.section),
            [*MODES, ""].index(self.mode),
            kind,
            self.name,
        )


def describe(name: str) -> Measure:
    """Explain a measure's name; a name that is not known keeps itself as label, in the section Other."""
    match name.split("/"):
        case [plain] if plain in _PLAIN:
            return Measure(name, *_PLAIN[plain], mode="running")
        case [plain, mode] if plain in _PLAIN and mode in MODES:
            return Measure(name, *_PLAIN[plain], mode=mode)
        case ["sharpness", space, epsilon, mode] if mode in MODES:
            label = f"φ, {space} space, ε = {epsilon}"
            return Measure(name, "Sharpness φ", label, mode=mode)
        case ["sharpness", space, epsilon, mode, search] if (
            mode in MODES and search in SEARCHES
        ):
            label = f"φ by {SEARCHES[search]} alone, ε = {epsilon}"
            return Measure(name, "Sharpness φ", label, mode=mode)
        case ["hessian", kind, mode] if kind in _HESSIAN and mode in MODES:
            return Measure(name, "Hessian", _HESSIAN[kind], mode=mode)
        case ["distance_from_start"]:
            return Measure(
                name, "Distance", "distance from the start ‖x \N{MINUS SIGN} x₀‖"
            )
    return Measure(name, "Other", name)
