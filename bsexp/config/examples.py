"""Which examples a run trains on, and how an image changes."""

import dataclasses

from bsexp import counts
from bsexp.bounds import below_one, between, fraction, or_zero
from bsexp.config.option import option


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the examples come from."""

    name: str = option(
        "mnist",
        "data set by TFDS name: name, name/config or name:version; mnist is built in",
    )
    dir: str = option(
        "",
        "folder of prepared TFDS data sets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets",
        identity=False,
    )
    train_size: int | str = option(
        "100%",
        "training examples, drawn at random; or a percentage of what the validation split leaves",
        unit="examples",
        check=counts.check,
    )
    validation_size: int | str = option(
        0,
        "examples taken off the training split for validation, drawn at random; or a percentage of it; 0: none",
        unit="examples",
        check=or_zero(counts.check),
    )
    split_seed: int = option(
        0,
        "seed of the draw of the validation and the training examples",
        check=between(0, 2**31 - 1),
    )
    label_noise: float = option(
        0.0,
        "probability with which a training label is replaced by another class, every other one alike",
        check=fraction,
    )
    noise_seed: int = option(0, "seed of the label noise", check=between(0, 2**31 - 1))
    streaming: bool = option(
        False,
        "read the training examples while training, for what does not fit on a device; the same numbers",
        identity=False,
    )
    workers: int = option(
        0,
        "reading processes of a stream, of which there is one for each seed that trains at the same time; 0: threads alone",
        unit="processes",
        check=between(0, 1_000),
        identity=False,
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How a training image changes anew each time it is seen; zeros come in where it moves away."""

    rotation: float = option(
        0.0,
        "largest angle of a random rotation, either way",
        unit="degrees",
        check=between(0, 180),
    )
    flip: bool = option(False, "mirror left and right with probability 1/2")
    shift: float = option(
        0.0,
        "largest random shift along height and width, by whole pixels",
        unit="fraction of the size",
        check=below_one,
    )
    crop: int = option(
        0,
        "width of the frame of zeros from which a random crop of the image's size is cut",
        unit="pixels",
        check=between(0, 1_000),
    )
