"""What containers write, as it may be shown: whole lines of one at a time, and nothing that tells a terminal what to
do."""

from __future__ import annotations

import re

LINE_MAX = 1 << 16
_CONTROL = re.compile(
    rb"(\x1b\[[0-9;:]*[mK])"  # colours, and the rest of a line erased, as progress bars do
    rb"|([\x00-\x07\x0b\x0c\x0e-\x1f\x7f])"
    rb"|\xc2([\x80-\x9f])"  # the same as one character, in UTF-8
)
_BEGUN = re.compile(rb"\x1b(\[[0-9;:]{0,30})?\Z|\xc2\Z")


def _shown(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return match[1]
    if match[2] is not None:
        return b"^" + bytes([match[2][0] ^ 0x40])
    return b"^[" + bytes([match[3][0] - 0x40])


class Stream:
    """Of one container to one of our streams."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_amid = self._was_cut = False  # a line of which a part is shown; whose rest is another line now

    def cut(self) -> bytes:
        """What is to be written before something that another wrote, so that this begins a line."""
        ends, self._is_amid = b"\n" if self._is_amid else b"", False
        self._was_cut = self._was_cut or ends != b""
        return ends

    def take(self, data: bytes, *, name: bytes = b"", terminal: bool, end: bool = False) -> bytes:
        """What of it is to be written now. With a ``name``, which stands before each line, only whole lines are."""
        if data and self._was_cut:
            data, self._was_cut = data.removeprefix(b"\n"), False
        data, self._rest = self._rest + data, b""
        if end:
            cut = len(data)
        elif name:
            cut = data.rfind(b"\n") + 1 or (len(data) if len(data) > LINE_MAX else 0)
        else:
            begun = _BEGUN.search(data) if terminal else None
            cut = begun.start() if begun else len(data)
        data, self._rest = data[:cut], data[cut:]
        if terminal:
            data = _CONTROL.sub(_shown, data)
        if not data:
            return data
        self._is_amid = not name and not data.endswith(b"\n")
        if not name:
            return data
        ended = data if data.endswith(b"\n") else data + b"\n"
        return b"".join(name + line + b"\n" for line in ended[:-1].split(b"\n"))
