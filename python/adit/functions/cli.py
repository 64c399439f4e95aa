"""The commands of functions: ``adit run``, ``adit serve`` and the like."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pathlib
import signal
import sys
import threading
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ..exception import Error, InvalidError
from . import bundle, session
from .app import App
from .cls import Cls
from .command_line import Brief, Parser, heeded
from .function import Function
from .known import hint as near
from .output import Output
from .traces import RemoteTraceback, lines_of

if TYPE_CHECKING:
    from types import ModuleType

INTERRUPTED = 130


def find_app(module: ModuleType, path: str) -> App:
    """A module's app, by its type, whatever it is called."""
    apps = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, App)}
    if not apps:
        raise InvalidError(f"{path}: there is no app in it (such as: app = adit.App())")
    if len(apps) > 1:
        names = ", ".join(name for name, _ in apps.values())
        raise InvalidError(
            f"{path}: there are several apps in it: {names} (put them into files of their own, or include())"
        )
    return next(iter(apps.values()))[1]


def find_function(app: App, name: str | None, path: str) -> tuple[str, Callable[..., Any] | Function[Any, Any]]:
    """The entrypoint or function to run: the one that is named, or the only one."""
    methods = {f"{cls.spec.name}.{name}": cls for cls in app.registered_classes.values() for name in cls.methods}
    runnable: dict[str, Any] = {n: f for n, f in app.registered_functions.items() if f.spec.web is None}
    if name is not None:
        short = name.rpartition(".")[2]
        found = app.registered_entrypoints.get(short) or app.registered_functions.get(short)
        if found is not None:
            return short, found
        method = next((m for m in methods if f".{name}".endswith(f".{m}")), None)
        if method is None:
            there = ", ".join([*app.registered_entrypoints, *app.registered_functions, *methods])
            raise InvalidError(f"{path}::{name}: there is no such function (there are: {there})")
        return method, _method(methods[method], method)
    choices: dict[str, Any] = app.registered_entrypoints or {**runnable, **methods}
    if not choices:
        if app.registered_functions:
            raise InvalidError(f"{path}: it has web endpoints only (use: adit serve {path})")
        raise InvalidError(f"{path}: its app has no functions (put @app.function() above one)")
    if len(choices) > 1:
        lines = "".join(f"\n    adit run {path}::{n}" for n in choices)
        raise InvalidError(f"{path}: it has several functions; say which:{lines}")
    [(name, chosen)] = choices.items()
    return name, _method(chosen, name) if isinstance(chosen, Cls) else chosen


def _method(cls: Cls, name: str) -> Function[Any, Any]:
    """Of an object that is made without arguments."""
    found: Function[Any, Any] = getattr(cls(), name.rpartition(".")[2])
    return found


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1", "yes")


_KINDS: dict[Any, Callable[[str], Any]] = {
    **{int: int, float: float, str: str, bool: _bool, pathlib.Path: pathlib.Path, Any: str, object: str},
    **{"int": int, "float": float, "str": str, "bool": _bool},  # where what hints name cannot be had
}


def _kind_of(parameter: inspect.Parameter, hints: dict[str, Any]) -> Callable[[str], Any] | None:
    """How a word becomes a parameter's value; None when no word can."""
    default = parameter.default
    if parameter.name not in hints:
        return str if default is None or default is parameter.empty else _KINDS.get(type(default))
    hint = hints[parameter.name]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        some = [one for one in typing.get_args(hint) if one is not type(None)]
        hint = some[0] if len(some) == 1 else hint
    if typing.get_origin(hint) is typing.Literal:
        kinds = {type(value) for value in typing.get_args(hint)}
        hint = kinds.pop() if len(kinds) == 1 else hint
    return _KINDS.get(hint)


def parse_arguments(name: str, raw: Callable[..., Any], target: str, words: list[str]) -> dict[str, Any]:
    """A function's parameters as options of the command line."""
    doc = inspect.getdoc(raw)
    parser = Brief(prog=f"adit run {target}", description=doc, allow_abbrev=False)
    try:
        hints = typing.get_type_hints(raw)
    except Exception:  # what it names is not here
        hints = dict(inspect.get_annotations(raw))
    options: list[str] = []
    for parameter in inspect.signature(raw).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required, kind = parameter.default is parameter.empty, _kind_of(parameter, hints)
        option = "--" + parameter.name.replace("_", "-")
        if kind is None:
            if required:
                raise InvalidError(
                    f"{name}: {parameter.name}: no word can be a {_shown(hints.get(parameter.name))} (call it from an "
                    "@app.local_entrypoint() that takes words, or give it a default)"
                )
            continue
        options.append(option)
        default = None if required else parameter.default
        parser.add_argument(option, dest=parameter.name, type=kind, required=required, default=default)
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        if option not in (*options, "--help"):
            there = near(option, options) if options else "it takes none"
            parser.error(f"{name}: {option}: no such option ({there})")
    return vars(parser.parse_args(words))


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def run(words: list[str]) -> int:
    """``adit run FILE[::name] [--option value]``."""
    parser = Parser(
        "run",
        "Runs a function of a file in a container, and shows its output. Builds the image first if need be.",
        "adit run jupyter.py                         the only function of the file",
        "adit run sums.py::add --a 2 --b 3           one of several, with its arguments",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show the function's output only")
    parser.add_argument("-d", "--detach", action="store_true", help="leave it to the foreman (adit foreman)")
    parser.takes_spare()
    parser.takes_budget()
    parser.takes_engine()
    parser.add_argument(
        "target", metavar="FILE[::FUNCTION]", help="the file, and which of its functions if it has several"
    )
    own = parser.add_argument("options", nargs=argparse.REMAINDER, help="the function's own arguments, as --name value")
    own.required = False  # of which argparse would tell
    given = parser.parse_args(words)
    if given.detach and given.budget is not None:
        parser.error("--budget: the foreman that a run is left to has its own (adit foreman --budget)")
    path, _, name = given.target.partition("::")
    app = find_app(bundle.load(path), path)
    chosen, function = find_function(app, name or None, path)
    raw = function.raw if isinstance(function, Function) else function
    arguments = parse_arguments(chosen, raw, given.target, given.options)
    if given.detach:
        return _detach(app, function, arguments, given.quiet)
    with Output(quiet=given.quiet) as output, app._running(output):
        if not isinstance(function, Function):
            function(**arguments)
        elif function.is_generator:
            for value in function.remote_gen(**arguments):
                print(value, flush=True)
        elif (result := function.remote(**arguments)) is not None:
            print(result)
    return 0


def _detach(app: App, function: Any, arguments: dict[str, Any], quiet: bool) -> int:
    channel = session.service()
    session.use(channel)
    with Output(quiet=quiet) as output, app._running(output, detached=True) as identity:
        if isinstance(function, Function):
            function.spawn(**arguments)
        else:
            function(**arguments)
        output.say(f"\u2713 It goes on as {identity} (adit app logs -f {identity}; adit app stop {identity})")
    return 0


def _show(error: BaseException) -> None:
    """The user's own lines, then what is wrong; of what we say ourselves, that alone."""
    if isinstance(error, Error) and not isinstance(error.__cause__, RemoteTraceback):
        print(f"adit: {error}", file=sys.stderr)
        return
    print("".join(lines_of(error, bundle.entry())).rstrip(), file=sys.stderr)


# Where each command is: a module here, and its function of that name.
COMMANDS = {
    "app": "app_commands",
    "deploy": "app_commands",
    "doctor": "doctor",
    "foreman": "foreman.service",
    "image": "stored_images",
    "run": "cli",
    "secret": "secret_command",
    "serve": "serving",
    "shell": "shell_command",
    "usage": "usage",
}


def find_command(name: str) -> Callable[[list[str]], int]:
    """What a command's name stands for: a function of the words after it, whose result is the exit status."""
    if name not in COMMANDS:
        raise InvalidError(f"adit has no command {name} yet (see docs/functions.md)")
    found: Callable[[list[str]], int] = getattr(importlib.import_module(f"{__package__}.{COMMANDS[name]}"), name)
    return found


def main(words: list[str]) -> NoReturn:
    """A command of functions."""
    status = 1
    try:
        command = find_command(words[0])
        for number in heeded(signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        status = command(words[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException as error:
        _show(error)
    finally:
        closing = threading.Thread(target=session.close)
        try:
            closing.start()
            closing.join()
        except KeyboardInterrupt:  # a third one ends this process at once, and containers end with it
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            status = INTERRUPTED
    sys.exit(status)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
