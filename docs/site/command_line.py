"""Page of the reference on the command line, from the parser that runs: commands, options, exit codes."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer
from tables import code, prose, table

from orchestrator import errors
from orchestrator.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENING = """# Command line

`ravel COMMAND -h` prints the same in your terminal. Write `.venv/bin/ravel` if you work in a clone.
Commands have this order in `ravel --help`, too.
"""
TYPES = {int: "N", float: "X", str: "TEXT"}
"""How the value of an option is shown that has no name of its own."""


def page() -> str:
    """Return the page."""
    root = typer.main.get_command(main.app)
    commands = list(_commands(root, "ravel"))
    panels = dict.fromkeys(panel for panel, _, _ in commands)
    parts = [OPENING]
    for panel in panels:
        named = [(words, command) for owner, words, command in commands if owner == panel]
        rows = [(f"[`{words}`](#{_anchor(words)})", _first_line(command)) for words, command in named]
        parts += [f"## {panel}", table(["command", ""], rows), *(_section(*item) for item in named)]
    return "\n\n".join([*parts, _options_of_all(root), _exit_codes(), ""])


def _commands(group: Any, words: str, panel: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the panel, the words and the command of everything that can be run."""
    for name, command in group.commands.items():
        owner = panel or command.rich_help_panel
        if hasattr(command, "commands"):
            yield from _commands(command, f"{words} {name}", owner)
        elif not command.hidden:
            yield owner, f"{words} {name}", command


def _section(words: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option" and not item.hidden]
    usage = " ".join([words, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    parts = [f"### {words}", prose(command.help), f"```text\n{usage}\n```"]
    rows = [(code(item.metavar or item.name.upper()), _default(item), _help(item)) for item in arguments]
    if rows:
        parts.append(table(["argument", "default", "meaning"], rows))
    rows = [(_spelling(item), _default(item), _help(item)) for item in options]
    if rows:
        parts.append(table(["option", "default", "meaning"], rows))
    if command.epilog:
        parts.append("\n".join(["```bash", *_examples(command.epilog), "```"]))
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _spelling(option: Any) -> str:
    names = ", ".join(code(name) for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {code(_value(option))}"


def _value(option: Any) -> str:
    return option.metavar or TYPES.get(_type(option), option.name.upper())


def _type(parameter: Any) -> Any:
    """Return the type of a parameter's value, or of each of its values."""
    annotation = parameter.type_descriptor.annotation
    while get_origin(annotation) not in {None, Literal}:
        annotation = next(item for item in get_args(annotation) if item is not type(None))
    return annotation


def _choices(parameter: Any) -> list[str]:
    """Return the values that a parameter may have, if they are a list."""
    kind = _type(parameter)
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return [str(item.value) for item in kind]
    return list(map(str, get_args(kind)))


def _default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default is None or default is False or callable(default):
        return ""
    return code(default.value if isinstance(default, Enum) else default)


def _help(parameter: Any) -> str:
    choices = _choices(parameter)
    allowed = [f"One of {', '.join(map(code, choices))}."] if choices else []
    limits = [f"{sign} {limit}" for sign, limit in [(">=", parameter.min), ("<=", parameter.max)] if limit is not None]
    allowed += [f"Must be {' and '.join(limits)}."] if limits else []
    return " ".join([_as_text(parameter.help or ""), *allowed])


def _as_text(text: str) -> str:
    """Return a text whose characters mean nothing to Markdown."""
    return re.sub(r"([<>*_\[\]])", r"\\\1", text)


def _first_line(command: Any) -> str:
    return prose(command.help).partition("\n")[0]


def _examples(epilog: str) -> list[str]:
    return [line.strip() for line in re.sub(r"^Examples?: ", "", epilog).splitlines() if line.strip()]


def _anchor(words: str) -> str:
    return words.replace(" ", "-")


def _options_of_all(root: Any) -> str:
    rows = [(_spelling(item), _help(item)) for item in root.params if not item.hidden]
    return "\n\n".join(["## Options of ravel itself", table(["option", "meaning"], rows)])


def _exit_codes() -> str:
    """Return the exit codes, from the text of the command line and the tree of errors."""
    sentence = prose(main.__doc__).partition("Exit codes: ")[2].rstrip(".")
    meanings = dict(re.findall(r"(\d+) (.+?)(?:, (?=\d)|$)", re.sub(r"\s+", " ", sentence)))
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if hasattr(item, "exit_code")]
    rows = []
    for number, meaning in meanings.items():
        those = [item for item in classes if item.exit_code == int(number)]
        rows.append((code(number), meaning, ", ".join(code(item.__name__) for item in those)))
    intro = "In Python the same situations are exceptions of `orchestrator.errors`."
    return "\n\n".join(["## Exit codes", intro, table(["code", "meaning", "exceptions"], rows)])
