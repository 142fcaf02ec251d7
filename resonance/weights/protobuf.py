"""Protocol Buffers' wire format, as far as TensorFlow's checkpoint index uses it.

It knows varints and fields, not what they mean. Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

MASK_64 = (1 << 64) - 1


class WireError(ValueError):
    """Bytes that do not decode; the caller adds the file's name."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the unsigned number at an offset; return it with the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & MASK_64, at
    raise WireError("a number is longer than 64 bits")


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Iterate over a message's fields in order: numbers as unsigned ints; strings and messages as bytes."""
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        field, kind = key >> 3, key & 7
        value: int | bytes
        if kind == 0:
            value, at = read_varint(message, at)
            yield field, value
            continue
        if kind == 2:
            size, at = read_varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WireError(f"field {field} has the unknown wire type {kind}")
        value = message[at : at + size]
        if len(value) != size:
            raise WireError(f"field {field} is cut off")
        at += size
        yield field, value if kind == 2 else int.from_bytes(value, "little")


def signed(value: int) -> int:
    """Decode an int64 field, which is encoded as its two's complement."""
    return value - (1 << 64) if value >> 63 else value


def varint(value: int) -> bytes:
    """Encode an unsigned number, seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def int_field(field: int, value: int) -> bytes:
    """Encode a number; 0 is left out, because a reader takes a missing field for 0."""
    return varint(field << 3) + varint(value) if value else b""


def fixed32_field(field: int, value: int) -> bytes:
    """Encode a number of four bytes."""
    return varint(field << 3 | 5) + value.to_bytes(4, "little")


def bytes_field(field: int, value: bytes) -> bytes:
    """Encode a string or a nested message."""
    return varint(field << 3 | 2) + varint(len(value)) + value
