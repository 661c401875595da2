# SPDX-License-Identifier: Apache-2.0
"""The data types of SSH, RFC 4251 section 5, as far as keys and signatures use them."""

from vmwarden.errors import Malformed


class SshReader:
    """Takes an SSH blob apart from its front.  Every method raises Malformed, and nothing else."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def take(self, count: int) -> bytes:
        """Exactly count bytes."""
        if count > len(self._data) - self._at:
            raise Malformed(f"{self._what}: cut off at byte {len(self._data)}")
        self._at += count
        return self._data[self._at - count : self._at]

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.uint32())

    def text(self) -> str:
        """A string of printable ASCII: names of algorithms and of namespaces are never anything else here."""
        raw = self.string()
        if not all(0x20 <= byte < 0x7F for byte in raw):
            raise Malformed(f"{self._what}: a name holds bytes that are not printable ASCII")
        return raw.decode("ascii")

    def natural(self) -> int:
        """An mpint that is greater than zero, in its shortest form."""
        raw = self.string()
        value = int.from_bytes(raw, "big")
        if value == 0 or mpint(value) != raw:
            raise Malformed(f"{self._what}: a number is zero, negative or not in its shortest form")
        return value

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise Malformed(f"{self._what}: {len(self._data) - self._at} bytes too many")


def string(data: bytes) -> bytes:
    """data with its length in front."""
    return len(data).to_bytes(4, "big") + data


def mpint(value: int) -> bytes:
    """The content of an mpint for a number that is not negative (its length is not in front)."""
    return value.to_bytes((value.bit_length() + 8) // 8, "big") if value else b""
