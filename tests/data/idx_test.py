import gzip
import re

import numpy as np
import pytest

from bsexp.data import idx

HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])


def test_parse_reads_sizes_big_endian_and_values_row_by_row(tmp_path):
    array = idx.parse(HEADER + bytes(range(6)), tmp_path / "file")
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])
    assert array.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "begins with nothing"),
        (b"\x00\x00\x0d\x01" + bytes(4), "begins with 00 00 0d 01"),
        (HEADER[:9], "inside its header"),
        (HEADER + bytes(5), "should hold 6 values for (2, 3), but holds 5"),
        (HEADER + bytes(7), "should hold 6 values for (2, 3), but holds 7"),
    ],
)
def test_parse_refuses_what_the_header_does_not_state(tmp_path, content, reason):
    file = tmp_path / "digits"
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        idx.parse(content, file)
    assert str(file) in str(caught.value)


def damage(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda whole: whole[: len(whole) // 2], "cut short"),
        (lambda whole: whole[:-3], "cut short"),
        (lambda whole: damage(whole, -8 + len(whole)), "CRC check failed"),
        (lambda whole: damage(whole, 0), "no gzip file"),
        (lambda whole: damage(whole, 12), "damaged"),
    ],
)
def test_decompress_names_a_damaged_file(tmp_path, change, reason):
    file = tmp_path / "digits.gz"
    file.write_bytes(change(gzip.compress(bytes(range(256)) * 20)))
    with pytest.raises(ValueError, match=reason) as caught:
        idx.decompress(file)
    assert str(file) in str(caught.value)


def test_decompress_returns_the_content(tmp_path):
    file = tmp_path / "digits.gz"
    file.write_bytes(gzip.compress(b"content"))
    assert idx.decompress(file) == b"content"
