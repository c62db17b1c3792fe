"""What a parameter of a node is, how it is checked, and the files made of all of them (see param_tables.py).

    python -m pose3d_ros.ros.params mono > config/mono.yaml
    python -m pose3d_ros.ros.params multi > config/multi.yaml
    python -m pose3d_ros.ros.params --markdown > docs/parameters.md
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Value = bool | int | float | str | list[str]
_NAME = re.compile('(?!.*__)[A-Za-z_][A-Za-z0-9_]*')  # a part of a topic's name
S = TypeVar('S')


class ParameterError(ValueError):
    """A parameter that does not exist, or a value it cannot have; the message names it and the cure."""


@dataclass(frozen=True)
class Parameter:
    """One parameter. low, high: inclusive range of a number. choices: of a string; or_file: beside them, any name that
    ends so. A list of strings holds names for topics, each once. settings: the settings class that has a field of this
    name, which the value is for. fixed: set at start only; the others while unconfigured too.
    """

    name: str
    default: Value
    description: str
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    or_file: str = ''
    settings: type | None = None
    fixed: bool = False

    @property
    def type_name(self) -> str:
        """Return 'bool', 'int', 'float', 'str' or 'list[str]'."""
        return 'list[str]' if isinstance(self.default, list) else type(self.default).__name__

    @property
    def allowed(self) -> str:
        """Return the range or the choices in words, '' where anything goes."""
        if self.choices:
            return ' | '.join([*filter(None, self.choices), *([f'*{self.or_file}'] if self.or_file else [])])
        return '' if self.low is None else f'{self.low:g} .. {self.high:g}'

    def check(self, value: Any) -> None:
        """Raise ParameterError for a value of another type, out of range or not among the choices."""
        if isinstance(self.default, list):
            return self._check_names(value)
        if type(value) is not type(self.default):
            hint = f': write {float(value)}' if self.type_name == 'float' and type(value) is int else ''
            raise ParameterError(f'{self.name} is {value!r} ({type(value).__name__}), but must be a '
                                 f'{self.type_name}{hint}')
        in_range = self.low is None or self.high is None or self.low <= float(value) <= self.high  # False for NaN
        is_choice = value in self.choices or bool(self.or_file and str(value).endswith(self.or_file))
        if not in_range or (self.choices and not is_choice):
            raise ParameterError(f'{self.name} is {value!r}, but must be {self.allowed} {self.unit}'.rstrip())
        return None

    def _check_names(self, value: Any) -> None:
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
            raise ParameterError(f'{self.name} is {value!r}, but must be a list of names: write '
                                 f'{_yaml_value(self.default)}')
        for name in value:
            if not _NAME.fullmatch(name):
                raise ParameterError(f'{self.name}: {name!r} cannot be part of a topic: use letters, digits and single '
                                     'underscores, and begin with no digit')
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ParameterError(f'{self.name}: {", ".join(twice)} is there twice; give each camera one name')


def check_overrides(table: Sequence[Parameter], overrides: Mapping[str, Any], declared: Sequence[str] = ()) -> None:
    """Raise ParameterError for what is set but not in the table (nor declared by rclpy), or set to a bad value.

    rclpy ignores unknown keys without a word; here a misspelt one stops the node, with the closest known name.
    """
    known = {parameter.name: parameter for parameter in table}
    for name, value in overrides.items():
        if name in known:
            known[name].check(value)
        elif name not in declared and not name.startswith('qos_overrides.'):
            close = difflib.get_close_matches(name, [*known, *declared], n=1, cutoff=0.5)
            hint = f'did you mean {close[0]}?' if close else f'known are: {", ".join(known)}'
            raise ParameterError(f'there is no parameter {name}: {hint}')


def settings_of(kind: type[S], table: Sequence[Parameter], values: Mapping[str, Any], **others: Any) -> S:
    """Return the settings that the values of a table say, and those of other names. Raises ValueError for values that
    do not go together.
    """
    return kind(**{parameter.name: values[parameter.name] for parameter in table if parameter.settings is kind},
                **others)


def yaml_text(file: str, nodes: Mapping[str, Sequence[Parameter]]) -> str:
    """Return config/FILE.yaml: every default of these nodes, commented. It holds in any namespace."""
    lines = ['# All parameters and their defaults. '
             f'Made by: python -m pose3d_ros.ros.params {file} > config/{file}.yaml']
    for node, table in nodes.items():
        lines += ['', f'/**/{node}:', '  ros__parameters:']
        for parameter in table:
            notes = [note for note in (parameter.allowed, parameter.unit) if note]
            lines.append(f'    # {parameter.description}' + (f' [{" ".join(notes)}]' if notes else ''))
            lines.append(f'    {parameter.name}: {_yaml_value(parameter.default)}')
    return '\n'.join(lines) + '\n'


def markdown_text(nodes: Mapping[str, Sequence[Parameter]]) -> str:
    """Return the documentation of all parameters."""
    lines = ['# Parameters', '', 'Made by: `python -m pose3d_ros.ros.params --markdown > docs/parameters.md`', '',
             'Set them in a YAML file (config/mono.yaml, config/multi.yaml have all of them) or with',
             '`-p name:=value`. A name that does not exist, or a value that is not allowed, stops the node at its',
             'start. All can be set while the node is unconfigured, except those marked (start), which are read once.']
    for node, table in nodes.items():
        lines += ['', f'## {node}', '',
                  '| parameter | default | allowed | unit | description |', '|---|---|---|---|---|']
        for parameter in table:
            allowed = parameter.allowed.replace('|', '\\|')
            start = ' (start)' if parameter.fixed else ''
            lines.append(f'| `{parameter.name}`{start} | {_yaml_value(parameter.default)} | {allowed} | '
                         f'{parameter.unit} | {parameter.description} |')
    return '\n'.join(lines) + '\n'


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f'[{", ".join(map(_yaml_value, value))}]'
    return f"'{value}'" if isinstance(value, str) else repr(value)


def _main(arguments: Sequence[str]) -> str:
    from pose3d_ros.ros.param_tables import FILES, NODES  # which imports this module

    if list(arguments) == ['--markdown']:
        return markdown_text(NODES)
    if len(arguments) != 1 or arguments[0] not in FILES:
        raise SystemExit(f'give one of {", ".join(FILES)}, --markdown')
    return yaml_text(arguments[0], {node: NODES[node] for node in FILES[arguments[0]]})


if __name__ == '__main__':
    print(_main(sys.argv[1:]), end='')
