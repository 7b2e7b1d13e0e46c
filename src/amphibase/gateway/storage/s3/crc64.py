"""The checksum CRC-64/NVME (of the NVM Express NVM Command Set Specification), which newer clients
of S3 send.

A remainder of polynomials over GF(2). Their coefficients are the bits of an integer, the highest
power first: the order of the bytes that come, each from its lowest bit on. A long one is folded:
what its first bits are worth further on is added there, by a few operations on whole integers. A
table takes one operation for each byte, and ten times as long.
"""

from functools import cache
from typing import Final

_POLYNOMIAL: Final = 0x9A6C9329AC4BC9B5
_ONES: Final = 2**64 - 1
_FOLDED_BYTES: Final = 16 * 1024
"""How much is folded at once; integers of this size stay in the processor's cache."""


def _times_x(remainder: int, count: int) -> int:
    """Multiply by x so many times."""
    for _ in range(count):
        remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
    return remainder


_TABLE: Final = tuple(_times_x(byte, 8) for byte in range(256))


class Crc64Nvme:
    """The checksum, with the methods of a hash."""

    def __init__(self) -> None:
        self._remainder = _ONES

    def update(self, data: bytes, /) -> None:
        for start in range(0, len(data), _FOLDED_BYTES):
            part = data[start : start + _FOLDED_BYTES]
            bits = int.from_bytes(part, "little") ^ self._remainder
            self._remainder = _reduce(bits, len(part))

    def digest(self) -> bytes:
        return (self._remainder ^ _ONES).to_bytes(8, "big")


def _reduce(bits: int, size: int) -> int:
    """Return the remainder of so many bytes, times x^64."""
    left = size * 8
    width = 1 << max(left.bit_length() - 2, 0)
    while width >= 64:
        while left >= 2 * width + 63:
            first = bits & ((1 << width) - 1)
            bits >>= width
            for shift in _shifts(width):
                bits ^= first << shift
            left -= width
        width >>= 1
    for _ in range(left // 8):
        bits = _TABLE[bits & 0xFF] ^ bits >> 8
    return bits


@cache
def _shifts(width: int) -> tuple[int, ...]:
    """Return the powers of x that x^(width + 63) leaves, as what each shifts by."""
    remainder = _times_x(1 << 63, width + 63)
    return tuple(shift for shift in range(64) if remainder >> shift & 1)
