"""The IDX format of MNIST and its relatives: a header, then unsigned bytes, all gzipped.

Source: http://yann.lecun.com/exdb/mnist (the section on the file formats).
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

UNSIGNED_BYTE = 0x08


def decompress(file: Path) -> bytes:
    """Return the content of a gzip file; ValueError names the file when it is cut short or damaged."""
    try:
        return gzip.decompress(file.read_bytes())
    except EOFError as error:
        raise ValueError(f"{file} is cut short: its gzip stream has no end") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} is damaged or no gzip file: {error}") from error


def parse(content: bytes, file: Path) -> np.ndarray:
    """Turn the bytes of an IDX file into an array.

    Header, big endian: two zero bytes, the type (only 0x08, unsigned byte), the number of
    dimensions d, then d sizes of four bytes.

    Args:
        content: the decompressed file.
        file: where it came from, for the messages.

    Returns:
        A read-only uint8 array with the shape that the header states.

    Raises:
        ValueError: wrong magic number, or more or fewer bytes than the header states.
    """
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTE)):
        raise ValueError(
            f"{file} is no IDX file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise ValueError(f"{file} is cut short inside its header")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{file} should hold {math.prod(shape)} values for {shape}, but holds {len(content) - header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
