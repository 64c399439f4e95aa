"""What caller, foreman and runner send each other.

A message is a JSON object, and behind it bytes that only its two ends understand: a value, as JSON where JSON says it
exactly, else as a pickle. The foreman passes values on and never loads one."""

from __future__ import annotations

import json
import struct
from typing import Any

import cloudpickle

from ..exception import ExecutionError, InvalidError

Meta = dict[str, Any]

META_MAX = 1 << 20
PAYLOAD_MAX = 1 << 30
_HEAD = struct.Struct("!I")
_JSON, _PICKLE = b"J", b"P"


def pack(meta: Meta, payload: bytes = b"") -> bytes:
    """A message."""
    head = json.dumps(meta).encode()
    return _HEAD.pack(len(head)) + head + payload


def unpack(data: bytes) -> tuple[Meta, bytes]:
    """A message's two parts; InvalidError for what is none, whoever sent it."""
    if not data:
        return {}, b""
    if len(data) < _HEAD.size:
        raise InvalidError("message: it is cut off")
    size = _HEAD.unpack_from(data)[0]
    if size > META_MAX or _HEAD.size + size > len(data):
        raise InvalidError("message: its head is longer than it may be")
    try:
        meta = json.loads(data[_HEAD.size : _HEAD.size + size])
    except (ValueError, RecursionError):
        raise InvalidError("message: its head is not JSON") from None
    if not isinstance(meta, dict):
        raise InvalidError("message: its head is not a JSON object")
    return meta, data[_HEAD.size + size :]


def pack_items(items: list[bytes]) -> bytes:
    """Several values in one payload."""
    return b"".join(_HEAD.pack(len(item)) + item for item in items)


def unpack_items(data: bytes) -> list[bytes]:
    """The reverse of pack_items."""
    items, at = [], 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise InvalidError("message: its items are cut off")
        size = _HEAD.unpack_from(data, at)[0]
        at += _HEAD.size
        if at + size > len(data):
            raise InvalidError("message: its items are cut off")
        items.append(data[at : at + size])
        at += size
    return items


def _is_plain(value: object) -> bool:
    """Whether it comes back from JSON as it was: a tuple, a subclass of str or an int as a key would not."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return True
    if kind is list:
        return all(_is_plain(item) for item in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(type(k) is str and _is_plain(v) for k, v in value.items())  # type: ignore[attr-defined]
    return False


def encode(value: object, what: str = "the value") -> bytes:
    """A value for the other side."""
    try:
        if _is_plain(value):
            return _JSON + json.dumps(value).encode()
    except RecursionError:
        pass
    try:
        return _PICKLE + bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise ExecutionError(
            f"{what}: a {type(value).__name__} cannot be sent to another process: {error} (send what can be pickled, "
            "such as numbers, strings, lists and objects of your own classes)"
        ) from error


def decode(data: bytes, *, trusted: bool, what: str = "the value") -> Any:
    """``trusted`` says whether a pickle, which can do anything to whoever loads it, may be loaded."""
    tag, body = data[:1], data[1:]
    if tag == _JSON:
        return json.loads(body)
    if tag != _PICKLE:
        raise ExecutionError(f"{what}: it cannot be read (is the other side of this version of adit?)")
    if not trusted:
        raise ExecutionError(f"{what}: it is a pickle of an app that is not trusted (return numbers, strings or lists)")
    import pickle

    try:
        return pickle.loads(body)
    except Exception as error:
        raise ExecutionError(
            f"{what}: it cannot be unpickled here: {type(error).__name__}: {error} "
            "(is the module that defines it installed on both sides?)"
        ) from error
