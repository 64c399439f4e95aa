"""What caller, foreman and runner send each other.

A message is a JSON object, and behind it bytes that only its two ends understand: a value, as plain data (plain.py)
where that says it exactly, else as a pickle. The foreman passes values on and never loads one."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
import sys
from typing import Any

import cloudpickle

from .. import exception
from ..exception import ExecutionError, InvalidError
from . import plain

Meta = dict[str, Any]

VERSION = "Adit-Version"  # the header that says whose message it is
META_MAX = 1 << 20
PAYLOAD_MAX = 1 << 30
OUTCOME_MAX = {"status": 1 << 10, "type": 1 << 10, "message": 16 << 10}  # bytes of the head
TRACEBACK_MAX = 64 << 10
_HEAD = struct.Struct("!I")
_PLAIN, _PICKLE, _CODE = b"J", b"P", b"C"
_BY_CLOUDPICKLE = b"cloudpickle.cloudpickle"


def pack(meta: Meta, payload: bytes = b"") -> bytes:
    """A message."""
    head = json.dumps(meta).encode()
    return _HEAD.pack(len(head)) + head + payload


def clip(text: str, most: int, *, last: bool = False) -> str:
    """Its beginning, or its end, that takes at most so many bytes of a head."""
    text = text[-most:] if last else text[:most]
    while text and (size := len(json.dumps(text))) > most:
        n = min(len(text) - 1, len(text) * most // size)
        text = text[len(text) - n :] if last else text[:n]
    return text


def clip_outcome(outcome: Meta) -> Meta:
    """What may be said of a call's end, in a head that others go into, too."""
    said = {name: clip(str(outcome[name]), most) for name, most in OUTCOME_MAX.items() if name in outcome}
    if "traceback" in outcome:
        said["traceback"] = clip(str(outcome["traceback"]), TRACEBACK_MAX, last=True)
    return said


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


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
        meta = json.loads(data[_HEAD.size : _HEAD.size + size], parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidError("message: its head is not JSON") from None
    if not isinstance(meta, dict):
        raise InvalidError("message: its head is not a JSON object")
    return meta, data[_HEAD.size + size :]


def kind_of(error: exception.Error) -> str:
    """The class of adit.exception that the other side knows it by."""
    kinds = (kind for kind in type(error).__mro__ if getattr(exception, kind.__name__, None) is kind)
    return next(kinds, exception.Error).__name__


def pack_items(items: list[bytes]) -> bytes:
    """Several values in one payload."""
    return b"".join(_HEAD.pack(len(item)) + item for item in items)


def unpack_items(data: bytes, most: int | None = None, what: str = "message") -> list[bytes]:
    """The reverse of pack_items; InvalidError for more than ``most``, as those without bytes are many."""
    items: list[bytes] = []
    at = 0
    while at < len(data):
        if most is not None and len(items) >= most:
            raise InvalidError(f"{what}: more than {most} items at once (send fewer at a time)")
        if at + _HEAD.size > len(data):
            raise InvalidError("message: its items are cut off")
        size = _HEAD.unpack_from(data, at)[0]
        at += _HEAD.size
        if at + size > len(data):
            raise InvalidError("message: its items are cut off")
        items.append(data[at : at + size])
        at += size
    return items


def encode(value: object, what: str = "the value") -> bytes:
    """A value for the other side."""
    with contextlib.suppress(plain.NotPlain):
        return _PLAIN + plain.dump(value)
    try:
        data = bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise ExecutionError(
            f"{what}: a {type(value).__name__} cannot be sent to another process: {error} (send what can be pickled, "
            "such as numbers, strings, lists and objects of your own classes)"
        ) from error
    # What cloudpickle sends of a lambda, or of a class of an interactive session, is code, as this very Python has it.
    return (_CODE + bytes(sys.version_info[:2]) if _BY_CLOUDPICKLE in data else _PICKLE) + data


def decode(data: bytes, *, trusted: bool, what: str = "the value") -> Any:
    """``trusted`` says whether a pickle, which can do anything to whoever loads it, may be loaded."""
    tag, body = data[:1], data[1:]
    if tag == _PLAIN:
        try:
            return plain.load(body)
        except ValueError as error:
            raise ExecutionError(f"{what}: it cannot be read: {error}") from None
    if tag not in (_PICKLE, _CODE):
        raise ExecutionError(f"{what}: it cannot be read (is the other side of this version of adit?)")
    if not trusted:
        raise ExecutionError(
            f"{what}: it is a pickle, from a container that is not trusted, and was not loaded (send None, numbers, "
            "strings, bytes, and lists, tuples, dicts and sets of them, or trust its app with App(trusted=True))"
        )
    if tag == _CODE:
        body = _of_this_python(body, what)
    try:
        return pickle.loads(body)
    except Exception as error:
        raise ExecutionError(
            f"{what}: it cannot be unpickled here: {type(error).__name__}: {error} "
            "(is the module that defines it installed on both sides?)"
        ) from error


def _of_this_python(body: bytes, what: str) -> bytes:
    theirs, ours = ("{}.{}".format(*version) for version in (body[:2].ljust(2, b"\0"), sys.version_info[:2]))
    if theirs != ours:
        raise ExecutionError(
            f"{what}: there is code in it that Python {theirs} made, and this is Python {ours} (have the same on both "
            "sides, for an image with Image.debian_slim(python_version=...), or define what is sent in a module of the "
            "program)"
        )
    return body[2:]
