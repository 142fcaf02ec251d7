"""Sorted tables of keys and values in one file: LevelDB's format, in which TensorFlow keeps a checkpoint's index.

It knows blocks and bytes, not the meaning of a key. A file is data blocks, an (empty) metaindex block, an index
block that points to the data blocks, and a footer that points to the last two. Every block ends with its
compression (one byte) and a masked CRC-32C. Source: LevelDB's doc/table_format.md and TensorFlow's core/lib/io/table.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping

import google_crc32c

from resonance.weights.protobuf import WireError, read_varint, varint

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48  # two handles of at most 20 bytes, then the magic number
TRAILER_BYTES = 5  # a block's compression and checksum
RESTART_INTERVAL = 16  # entries from one key that is written whole to the next
BLOCK_BYTES = 256 * 1024  # TensorFlow's block size for a checkpoint's index
MASK_DELTA = 0xA282EAD8


def masked(crc: int) -> int:
    """Mask a checksum for storage: rotated and shifted, so that a checksum over checksums stays useful."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Read all keys and values from a table file's bytes. Raises WireError where they are damaged."""
    if len(data) < FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise WireError("it does not end as a table does, so it is another kind of file or cut short")
    footer = data[-FOOTER_BYTES:-8]
    at = 0
    for _ in range(2):  # skip the metaindex block's handle
        _, at = read_varint(footer, at)
    table: dict[bytes, bytes] = {}
    for _, handle in _read_block(data, footer[at:]):
        table.update(_read_block(data, handle))
    return table


def _read_block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    start, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    block = data[start : start + size]
    trailer = data[start + size : start + size + TRAILER_BYTES]
    if len(trailer) != TRAILER_BYTES or size < 4:
        raise WireError(f"the block at byte {start} reaches past the end")
    compression, crc = struct.unpack("<BI", trailer)
    if masked(google_crc32c.value(block + trailer[:1])) != crc:
        raise WireError(f"the checksum of the block at byte {start} is wrong")
    if compression:
        raise WireError(f"the block at byte {start} is compressed (kind {compression}), which is not supported")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    if end < 0:
        raise WireError(f"the block at byte {start} has no room for its {restarts} restart points")
    return _entries(block[:end])


def _entries(entries: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, key = 0, b""
    while at < len(entries):
        shared, at = read_varint(entries, at)
        own, at = read_varint(entries, at)
        value_bytes, at = read_varint(entries, at)
        if shared > len(key) or at + own + value_bytes > len(entries):
            raise WireError("an entry reaches past its block")
        key = key[:shared] + entries[at : at + own]
        at += own
        yield key, entries[at : at + value_bytes]
        at += value_bytes


def write_table(table: Mapping[bytes, bytes], block_bytes: int = BLOCK_BYTES) -> bytes:
    """Encode keys and values as a table file, byte for byte as TensorFlow writes it without compression."""
    out = bytearray()
    index: list[tuple[bytes, bytes]] = []
    blocks = list(_split(sorted(table.items()), block_bytes))
    for number, block in enumerate(blocks):
        handle = _append_block(out, block, RESTART_INTERVAL)
        last = block[-1][0]
        following = blocks[number + 1][0][0] if number + 1 < len(blocks) else None
        index.append((_successor(last) if following is None else _separator(last, following), handle))
    footer = _append_block(out, [], RESTART_INTERVAL) + _append_block(out, index, 1)
    return bytes(out) + footer.ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC)


def _split(entries: Iterable[tuple[bytes, bytes]], most: int) -> Iterator[list[tuple[bytes, bytes]]]:
    block: list[tuple[bytes, bytes]] = []
    size, before = 8, b""
    for key, value in entries:
        shared = 0 if len(block) % RESTART_INTERVAL == 0 else _shared(before, key)
        size += len(_entry(shared, key, value)) + 4 * (len(block) % RESTART_INTERVAL == 0 and bool(block))
        block.append((key, value))
        before = key
        if size >= most:
            yield block
            block, size = [], 8
    if block:
        yield block


def _entry(shared: int, key: bytes, value: bytes) -> bytes:
    return varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value


def _append_block(out: bytearray, entries: list[tuple[bytes, bytes]], interval: int) -> bytes:
    """Append a block with its trailer; return its handle."""
    block, restarts, before = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        whole = number % interval == 0
        if whole and number:
            restarts.append(len(block))
        block += _entry(0 if whole else _shared(before, key), key, value)
        before = key
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    handle = varint(len(out)) + varint(len(block))
    out += block + b"\0" + struct.pack("<I", masked(google_crc32c.value(bytes(block) + b"\0")))
    return handle


def _shared(one: bytes, other: bytes) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


def _separator(last: bytes, following: bytes) -> bytes:
    """Return a short key between two blocks: not before `last`, and before `following`."""
    at = _shared(last, following)
    if at < min(len(last), len(following)) and last[at] < 0xFF and last[at] + 1 < following[at]:
        return last[:at] + bytes([last[at] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """Return a short key not before `last`, for the last block."""
    for at, byte in enumerate(last):
        if byte < 0xFF:
            return last[:at] + bytes([byte + 1])
    return last
