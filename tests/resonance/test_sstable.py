import struct
from contextlib import suppress

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.weights.protobuf import WireError, int_field, read_fields, read_varint, signed, varint
from resonance.weights.sstable import MAGIC, masked, read_table, write_table

tables = st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=80)


@given(tables, st.integers(16, 600))
def test_what_is_written_is_read_back_over_any_number_of_blocks(table: dict[bytes, bytes], block_bytes: int):
    assert read_table(write_table(table, block_bytes)) == table


@given(st.dictionaries(st.text("ab/", max_size=30).map(str.encode), st.binary(max_size=9), min_size=1, max_size=60))
def test_keys_with_long_common_prefixes_are_read_back(table: dict[bytes, bytes]):
    assert read_table(write_table(table, 64)) == table


@given(tables.filter(bool), st.data())
def test_any_changed_byte_before_the_footer_is_noticed_or_harmless(table: dict[bytes, bytes], data: st.DataObject):
    whole = write_table(table, 128)
    at = data.draw(st.integers(0, len(whole) - 49))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    with suppress(WireError):
        assert read_table(bytes(damaged)) == table  # a byte of the metaindex block, which nobody needs


@given(st.binary(max_size=300))
def test_bytes_that_are_no_table_are_refused(noise: bytes):
    with pytest.raises(WireError):
        read_table(noise + struct.pack("<Q", MAGIC ^ 1))


@given(st.binary(max_size=80))
def test_a_footer_after_noise_ends_in_an_error_and_never_in_anything_else(noise: bytes):
    for footer in (bytes(40), b""):
        with suppress(WireError):
            assert isinstance(read_table(noise + footer + struct.pack("<Q", MAGIC)), dict)


def test_a_block_whose_checksum_is_right_but_whose_entries_lie_is_refused():
    for entries in (b"\x05\x01\x00a", b"\x00\x7f\x00a", b"\x00\x01\x7fa", b"\x80"):
        block = entries + struct.pack("<II", 0, 1)
        table = block + b"\0" + struct.pack("<I", masked(google_crc32c.value(block + b"\0")))
        index_entry = b"\x00\x01\x02z" + varint(0) + varint(len(block))
        index = index_entry + struct.pack("<II", 0, 1)
        where = len(table)
        table += index + b"\0" + struct.pack("<I", masked(google_crc32c.value(index + b"\0")))
        footer = (varint(0) + varint(0) + varint(where) + varint(len(index))).ljust(40, b"\0")
        with pytest.raises(WireError):
            read_table(table + footer + struct.pack("<Q", MAGIC))


def test_a_compressed_block_is_refused_by_name():
    block = struct.pack("<II", 0, 1)
    table = block + b"\x01" + struct.pack("<I", masked(google_crc32c.value(block + b"\x01")))
    footer = (varint(0) * 2 + varint(0) + varint(len(block))).ljust(40, b"\0")
    with pytest.raises(WireError, match="compressed"):
        read_table(table + footer + struct.pack("<Q", MAGIC))


@given(st.integers(0, 2**64 - 1))
def test_a_varint_reads_back(value: int):
    assert read_varint(varint(value), 0) == (value, len(varint(value)))


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_signed_field_reads_back(value: int):
    fields = list(read_fields(int_field(3, value % 2**64)))
    assert [(number, signed(v)) for number, v in fields if isinstance(v, int)] == ([(3, value)] if value else [])


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_wire_error(noise: bytes):
    with suppress(WireError):
        assert all(isinstance(value, int | bytes) for _, value in read_fields(noise))
