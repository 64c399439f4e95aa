"""``adit secret``: what ``Secret.from_name`` finds. Values are never shown."""

from __future__ import annotations

import getpass
import sys

from ..exception import InvalidError
from . import secret_store
from .command_line import Parser
from .secret import Secret


def _value_of(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    secret_store.check_key(key)
    if equals:
        return key, value
    if sys.stdin.isatty():
        return key, getpass.getpass(f"{key}: ")
    line = sys.stdin.readline()
    if not line:
        raise InvalidError(f"secret: {key}: standard input has no line for it (or write {key}=VALUE)")
    return key, line.rstrip("\n")


def _create(name: str, words: list[str], dotenv: str | None, force: bool) -> None:
    values = Secret.from_dotenv(dotenv).values if dotenv is not None else {}
    for key in values:
        secret_store.check_key(key)
    values |= dict(map(_value_of, words))
    if not values:
        raise InvalidError(f"secret {name}: it has nothing in it (such as: adit secret create {name} API_KEY)")
    secret_store.write(name, values, replace=force)


def _list() -> None:
    for name in secret_store.names():
        print(f"{name}: {', '.join(secret_store.read(name))}")


def secret(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "secret",
        "Keeps secrets for functions, which have them by Secret.from_name(NAME).",
        "adit secret create openai API_KEY              # asks for the value, or reads a line",
        "adit secret create database USER=me PASSWORD",
        "adit secret list                               # names and keys, no values",
        "adit secret delete openai",
    )
    parser.add_argument("verb", choices=("create", "list", "delete"))
    parser.add_argument("name", metavar="NAME", nargs="?")
    parser.add_argument("words", metavar="KEY[=VALUE]", nargs="*", help="a value that is not given is asked for")
    parser.add_argument("--from-dotenv", metavar="FILE", help="and the variables of this file")
    parser.add_argument("--force", action="store_true", help="in place of the one of that name")
    given = parser.parse_args(words)
    if (given.name is None) != (given.verb == "list"):
        parser.error(f"secret {given.verb}: it takes {'no name' if given.name else 'a name'}")
    if given.verb == "create":
        _create(given.name, given.words, given.from_dotenv, given.force)
    elif given.verb == "delete":
        secret_store.delete(given.name)
    else:
        _list()
    return 0
