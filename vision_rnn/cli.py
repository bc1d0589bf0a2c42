"""The frame of every command: its options from a function, its exit status, its errors in one line.

A command is a function. Parameters before `*` are its arguments, those after it its options; a flag is a `bool` that is
false by default. The docstring is the help: its first lines describe the command, its section `Args` the options. What
all commands share is described here, once: `--json` and `--quiet`, which every command has, and `--seed`, `--device`,
`--config`, which those have whose functions ask for them.

Exit status: 0 done; 1 some inputs failed, each named, the others done; 2 wrong usage or configuration; 130 interrupted.
"""

import atexit
import gc
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from vision_rnn.console import problem, result, speaking_as
from vision_rnn.errors import UserError
from vision_rnn.version import tool_version

SHARED_HELP = {
    "seed": "random seed; the same seed gives the same result",
    "device": "device to compute on: auto takes a CUDA GPU where there is one",
    "host": "address to listen on; 0.0.0.0 lets other machines use the page",
    "port": "port to listen on",
    "json": "print one JSON document",
    "quiet": "print problems alone",
}
SHORT_NAMES = {"output": "-o", "number": "-n"}
BUNDLED = "bundled:"
# Where a page is served: only for this machine.
LOCAL_HOST, PORT = "127.0.0.1", 7860


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        text: What it prints.
        document: What it prints in place of that with `--json`.
        status: Its exit status: 0, or 1 if some inputs failed.
    """

    text: str
    document: Any
    status: int = 0


# One that prints by itself returns its exit status, one that only writes the path of what it wrote.
Command = Callable[..., Outcome | Path | int]


@atexit.register
def _leave_cycles() -> None:
    """Do not look for unreachable cycles at the exit, which would take a tenth of the time of captioning a photo."""
    # Parts of torch print what they take for leaks, if cycles are left.
    if "torch" not in sys.modules:
        gc.freeze()


def run(
    program: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None, configs: Path | None = None
) -> int:
    """Run one of a program's commands, and return the exit status.

    Args:
        program: Its name, which every message begins with.
        commands: The commands by name.
        argv: The arguments; by default those of the process.
        configs: The folder of the configurations that `--config bundled:NAME` names.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    return exit_status(program, lambda: _dispatch(program, commands, given, configs), quiet="--quiet" in given)


def exit_status(program: str, action: Callable[[], int], quiet: bool = False) -> int:
    """Do what a program does, and return its exit status: that of `action`, 2 for a user's mistake, 130 if interrupted.

    The arguments of a `KeyboardInterrupt` are printed: how to continue.

    Args:
        program: Its name, which every message begins with.
        action: What it does.
        quiet: Print problems alone.
    """
    with speaking_as(program, quiet):
        try:
            status = action()
            sys.stdout.flush()  # So that what cannot be written fails here, not at the exit of the interpreter.
            return status
        except (UserError, ArgumentError) as error:
            return _fail(" ".join(f"error: {error}".split()), 2)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split()) or "the system gave no number"
            return _fail(f"error: out of memory ({reason}); lower the batch size, or the sizes asked for", 2)
        except KeyboardInterrupt as interruption:
            return _fail("; ".join(["interrupted", *map(str, interruption.args)]), 130)
        except OSError as error:
            # What has a better explanation is a UserError: left is a pipe whose reader has gone, or a full disk.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _fail(f"error: {error}", 2)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; torch says so by a RuntimeError, which for a GPU has a class of its own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "CPUAllocator" in str(error)


def command_parser(program: str, name: str, command: Command, configs: Path | None = None) -> ArgumentParser:
    """Make the parser of one command, whose arguments and options are those of its function."""
    documentation = docstring_parser.parse(inspect.getdoc(command) or "", docstring_parser.DocstringStyle.GOOGLE)
    description = " ".join(f"{documentation.short_description} {documentation.long_description or ''}".split())
    parameters = _parameters(command)
    places = " ".join(place for parameter in parameters if (place := _place(parameter)))
    parser = ArgumentParser(
        prog=f"{program} {name}".strip(),
        usage=" ".join(f"%(prog)s {places} [options]".split()),
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    help_of = {each.arg_name: " ".join((each.description or "").split()) for each in documentation.params}
    if any(is_dataclass(parameter.type) for parameter in parameters):
        names = f", or {BUNDLED}NAME for one of: {', '.join(_bundled(configs))}" if configs else ""
        parser.add_argument("--config", action="config", help=f"YAML file of the options below{names}")
    for parameter in parameters:
        _add(parser, parameter, SHARED_HELP.get(parameter.name) or help_of[parameter.name])
    for shared in ("json", "quiet"):
        if shared not in {parameter.name for parameter in parameters}:
            _add(parser, _Parameter(shared, bool, False, is_option=True), SHARED_HELP[shared])
    return parser


def configs_of(package: str) -> Path:
    """Return the folder of a package's configurations: inside it where it is installed, else that of the checkout."""
    root = Path(__file__).parents[1]
    installed = root / package / "configs"
    return installed if installed.is_dir() else root / "configs" / package


class _Parameter(NamedTuple):
    """One parameter of a command's function."""

    name: str
    type: Any
    default: Any
    is_option: bool


def _place(parameter: _Parameter) -> str:
    """Return how the usage shows a parameter; nothing for an option that may be omitted."""
    name = f"{parameter.name.upper()}{' ...' if get_origin(parameter.type) is list else ''}"
    required = parameter.default is inspect.Parameter.empty
    if parameter.is_option:
        return f"{SHORT_NAMES.get(parameter.name, f'--{parameter.name}')} {name}" if required else ""
    return name if required else f"[{name}]"


class _HelpFormatter(DefaultHelpFormatter):
    """Help without types, and without defaults that say nothing."""

    def _get_help_string(self, action: Any) -> str:
        says_nothing = isinstance(action.default, bool | None) or action.default in ([], "", "==SUPPRESS==")
        if says_nothing or not action.option_strings:
            return action.help or ""
        default = " ".join(map(str, action.default)) if isinstance(action.default, list | tuple) else action.default
        return f"{action.help} (default: {default})".replace("%", "%%")


def _dispatch(program: str, commands: Mapping[str, Command], given: list[str], configs: Path | None) -> int:
    if given and given[0] in ("-h", "--help"):
        print(_overview(program, commands))
        return 0
    if given == ["--version"]:
        print(f"{program} {tool_version()}")
        return 0
    if not given or given[0] not in commands:
        wrong = f"no command '{given[0]}'" if given else "no command"
        raise UserError(f"{wrong}; choose one of: {', '.join(commands)} (see {program} --help)")
    name, command = given[0], commands[given[0]]
    arguments = _with_bundled_configs(given[1:], configs)
    parser = command_parser(program, name, command, configs)
    try:
        if any(argument.partition("=")[0] == "--ckpt_path" for argument in arguments):
            arguments = _with_settings_of_run(arguments, command)
        parsed = parser.parse_args(arguments)
        _check_settings(parsed, command)
        options = parser.instantiate(parsed)
    except SystemExit as end:  # Help was printed.
        return int(end.code or 0)
    except (RecursionError, ValueError) as error:
        # Of a configuration file: bytes that are not UTF-8, dates and numbers that are none, endless nesting.
        if not any(argument.partition("=")[0] == "--config" for argument in arguments):
            raise
        raise UserError(f"--config: not a YAML file that can be read ({error}); fix the file") from error
    parameters = _parameters(command)
    values = {parameter.name: _plain(getattr(options, parameter.name)) for parameter in parameters}
    positional = [values.pop(parameter.name) for parameter in parameters if not parameter.is_option]
    outcome = command(*positional, **values)
    if isinstance(outcome, int):
        return outcome
    if isinstance(outcome, Path):
        outcome = Outcome(str(outcome), {"written": str(outcome)})
    result(json.dumps(outcome.document, indent=2, ensure_ascii=False) if options.json else outcome.text)
    return outcome.status


def _check_settings(parsed: Namespace, command: Command) -> None:
    """Refuse what a configuration file may give in place of settings or their values, and the parser accepts.

    Raises:
        UserError: Settings are no mapping, or one has no value and needs one; the message names it.
    """
    for parameter in _parameters(command):
        if not is_dataclass(parameter.type):
            continue
        settings = getattr(parsed, parameter.name)
        if not isinstance(settings, Namespace):
            raise UserError(f"{parameter.name}: {settings!r} in place of its settings; write them below it, indented")
        for name, kind in get_type_hints(parameter.type).items():
            if getattr(settings, name) is None and type(None) not in get_args(kind):
                raise UserError(f"{parameter.name}.{name}: has no value; give one, or omit it")


def _with_settings_of_run(arguments: list[str], command: Command) -> list[str]:
    """Put the settings that a run was started with in place of a configuration file; options still override them."""
    lenient = command_parser("", "", command)
    for action in lenient._actions:
        action.required = False
    output = lenient.parse_args(arguments).output
    settings = Path(output or "", "config.yaml")
    if not output or not settings.is_file():
        return arguments
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--config" and not argument.startswith("--config="):
            kept.append(argument)
        skip = argument == "--config"
    return ["--config", str(settings), f"--output={output}", *kept]


def _plain(value: Any) -> Any:
    """Return a number of one of the parser's own kinds, which YAML cannot write, as an ordinary one."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _overview(program: str, commands: Mapping[str, Command]) -> str:
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {_first_line(command)}" for name, command in commands.items()]
    usage = [f"usage: {program} COMMAND ...", "", "commands:", *lines, ""]
    return "\n".join([*usage, f"{program} COMMAND --help describes a command; {program} --version prints the version."])


def _first_line(command: Command) -> str:
    return (inspect.getdoc(command) or "").splitlines()[0].rstrip(".")


def _parameters(command: Command) -> list[_Parameter]:
    hints = get_type_hints(command)
    return [
        _Parameter(
            parameter.name,
            _option_type(hints[parameter.name]),
            parameter.default,
            is_option=parameter.kind is parameter.KEYWORD_ONLY,
        )
        for parameter in inspect.signature(command).parameters.values()
    ]


def _option_type(hint: Any) -> Any:
    """Return X of `X | None`, None being for an option that was not given, and of `X | Y`, Y being for Python."""
    return get_args(hint)[0] if get_origin(hint) in (Union, types.UnionType) else hint


def _add(parser: ArgumentParser, parameter: _Parameter, help: str) -> None:
    """Add one parameter to a parser."""
    name, kind, default, is_option = parameter
    details: dict[str, Any] = {"help": help}
    is_list = get_origin(kind) is list
    details["type"] = get_args(kind)[0] if is_list else kind
    required = default is inspect.Parameter.empty
    if not is_option:
        nargs = {(True, True): "+", (True, False): "*", (False, False): "?"}.get((is_list, required))
        details |= ({"nargs": nargs} if nargs else {}) | ({} if required else {"default": default})
        parser.add_argument(name, metavar=name.upper(), **details)
        return
    # The options of a configuration file are spelled as in the file; what is only switched on is not written there.
    has_configs = any(action.dest == "config" for action in parser._actions) and kind is not bool
    flags = [f"--{name if has_configs else name.replace('_', '-')}"]
    flags = [SHORT_NAMES[name], *flags] if name in SHORT_NAMES else flags
    if kind is bool and default is False:
        parser.add_argument(*flags, action="store_true", help=help)
        return
    details |= {"required": True} if required else {"default": default}
    if is_list:
        details["nargs"] = "+"
    parser.add_argument(*flags, **details)


def _with_bundled_configs(arguments: Sequence[str], configs: Path | None) -> list[str]:
    """Replace the name of a bundled configuration by its path."""
    replaced = list(arguments)
    for index, argument in enumerate(arguments):
        start = "--config=" if argument.startswith("--config=") else ""
        value = argument.removeprefix(start)
        if configs and value.startswith(BUNDLED) and (start or (index and arguments[index - 1] == "--config")):
            replaced[index] = f"{start}{bundled_config(value, configs)}"
    return replaced


def bundled_config(name: str, configs: Path) -> Path:
    """Return the path of the configuration `bundled:NAME`.

    Raises:
        UserError: There is no such configuration.
    """
    known = _bundled(configs)
    path = known.get(name.removeprefix(BUNDLED))
    if path is None:
        raise UserError(f"{name}: no such configuration; choose one of: {', '.join(known)}")
    return path


def _bundled(configs: Path) -> dict[str, Path]:
    return {path.relative_to(configs).with_suffix("").as_posix(): path for path in sorted(configs.rglob("*.yaml"))}


def _fail(message: str, status: int) -> int:
    problem(message)
    return status
