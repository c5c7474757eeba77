"""The examples of a prepared split, read one by one or many at once, in any order. Knows nothing of JAX."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bsexp.data import decoding

# Records read at once: bounds the memory that they take beside the arrays.
READ_AT_ONCE = 4_096


class DamagedError(ValueError):
    """Records that cannot be read, that have no label, or whose features are not finite."""


class Records:
    """A split on disk: no more than what is asked for is in memory.

    It can be read by several threads at once, and pickled: another process opens the files for itself.

    Args:
        folder: the prepared data set.
        split: the split's name.
        image_shape: (H, W, C), or (D,) of features.
        dtype: of the images, uint8, or of features, float32.
        num_classes: K.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        image_shape: tuple[int, ...],
        dtype: np.dtype,
        num_classes: int,
    ) -> None:
        self._folder = folder
        self._split = split
        self._image_shape = image_shape
        self._dtype = dtype
        self._num_classes = num_classes

    def __getstate__(self) -> dict[str, Any]:
        opened = "_source", "_decode"
        return {key: value for key, value in vars(self).items() if key not in opened}

    def __len__(self) -> int:
        try:
            return len(self._source)
        except Exception as error:
            raise self._unreadable(error) from error

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Read the examples at ``indices``: images, uint8 [n, H, W, C], or features, float32 [n, D]; labels, int32 [n].

        Raises:
            DamagedError: the records cannot be read, one has no label, or a feature is not finite.
        """
        images = np.empty((len(indices), *self._image_shape), self._dtype)
        labels = np.empty(len(indices), np.int32)
        try:
            for place, record in enumerate(self._records(indices)):
                images[place], labels[place] = self._decode(record)
        # A damaged shard shows in the reader, the protobuf parser or the image decoder: no common base.
        except Exception as error:
            raise self._unreadable(error) from error
        if len(labels) and not 0 <= labels.min() <= labels.max() < self._num_classes:
            raise DamagedError(
                f"split {self._split} of {self._folder} has labels from {labels.min()} to {labels.max()}, "
                f"outside 0 to {self._num_classes - 1} (TFDS writes -1 where the label is hidden)"
            )
        if self._dtype == np.float32 and not np.isfinite(images).all():
            raise DamagedError(
                f"split {self._split} of {self._folder} has inputs that are not finite; remove that folder and prepare it again without them"
            )
        return images, labels

    def _records(self, indices: Sequence[int]) -> Iterator[bytes]:
        for first in range(0, len(indices), READ_AT_ONCE):
            some = indices[first : first + READ_AT_ONCE]
            yield from self._source.__getitems__([int(index) for index in some])

    @functools.cached_property
    def _source(self) -> Any:
        return tfds.builder_from_directory(self._folder).as_data_source(
            self._split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )

    @functools.cached_property
    def _decode(self) -> decoding.Decode:
        return decoding.decoder(self._source.dataset_info.features)

    def _unreadable(self, error: Exception) -> DamagedError:
        return DamagedError(
            f"cannot read split {self._split} in {self._folder} ({type(error).__name__}: {error}); "
            "remove that folder and prepare it again"
        )
