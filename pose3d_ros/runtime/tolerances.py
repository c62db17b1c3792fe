"""How far an engine's outputs may be from the network's: rules, as files state them or by the outputs' form.

A network's metadata hold, under the key 'tolerances', JSON: for each output one rule or a list of rules, see Rule. What
a file does not say gets a rule by its form, see usual_rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.engine import EngineError

MEASURES = ('value', 'sigmoid', 'peak', 'rows')
USUAL_RELATIVE = 0.02    # of an output's largest value
_BOX_COLUMNS = (4, 5, 6)  # the box, its score, its class
_SURE = 0.5              # score from which a box counts
_MANY = 100              # rows from which a table is taken to be one of boxes, whatever it is called


@dataclass(frozen=True)
class Rule:
    """How far an output may be off: absolute + relative * the reference's largest magnitude.

    measure: what is compared. 'value': the numbers. 'sigmoid': the probabilities that logits stand for: at -20 or -30
    they mean the same. 'peak': of heat maps (N, K, H, W) or bins (N, K, L), what decoders read: the height at the
    reference's highest place, and by how much the place that the engine would take is lower in the reference; two
    places of nearly the same height are equally good answers, so the distance between them would be the wrong measure.
    'rows': tables of boxes (N, K, columns), as sets: what is sorted by score, or chosen by it, comes in another order
    where two scores are next to equal. Each row that counts must have its like in the other table, and the reverse.
    per: axes along which each place has a largest magnitude of its own, e.g. (0,) for each person.
    every, take: the last axis is read in groups of `every`, of which only the values `take` count.
    where, over: only what belongs to places at which the output `where` of the reference is more than `over` counts:
    what a network says of a person who is not there is of no use to anybody. Where there is no such place, all count
    (of rows, the best 20). column: of `where`, only this column.
    what, unit: for the report.
    """

    absolute: float = 0.0
    relative: float = 0.0
    measure: str = 'value'
    per: tuple[int, ...] = ()
    every: int = 0
    take: tuple[int, ...] = ()
    where: str = ''
    over: float = 0.0
    column: int = -1
    what: str = ''
    unit: str = ''

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f'measure {self.measure!r} is none of {", ".join(MEASURES)}')
        if min(self.absolute, self.relative) < 0 or self.absolute + self.relative <= 0:
            raise ValueError('absolute and relative must not be negative, and one of them more than 0')
        if any(place >= self.every for place in self.take):
            raise ValueError(f'take {list(self.take)} is out of range for groups of {self.every}')


def tolerances_of(metadata: Mapping[str, str], outputs: Mapping[str, NDArray]) -> dict[str, tuple[Rule, ...]]:
    """Return the rules for each of a network's outputs (name -> what the reference says, for their form).

    Raises EngineError for metadata that cannot be read or that names an output that the network does not have.
    """
    try:
        said = json.loads(metadata.get('tolerances', '{}'))
        rules = {name: tuple(map(_rule, rule if isinstance(rule, list) else [rule])) for name, rule in said.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineError(f"metadata 'tolerances' of the model cannot be read: {error}; see runtime/check.py for its "
                          'form') from error
    named = [*rules, *(rule.where for group in rules.values() for rule in group if rule.where)]
    for name in named:
        if name not in outputs:
            raise EngineError(f"metadata 'tolerances' of the model names the output {name!r}; it has "
                              f'{", ".join(outputs)}')
    return {**usual_rules(outputs), **rules}


def usual_rules(outputs: Mapping[str, NDArray]) -> dict[str, tuple[Rule, ...]]:
    """Return rules for outputs that a file says nothing about.

    Heat maps (four axes, maps of 8x8 at least) and outputs called simcc: by their peaks, 2 % of the person's largest
    value. Tables of boxes (4 to 6 columns; called so, or of 100 rows and more): the rows whose score is over 0.5,
    1 % of each column's largest value. Numbers of classes and the like (integers) are not compared: their order follows
    the boxes'. Others: 2 % of the largest value of the same column, the columns being the shortest axis after the first
    where there are three axes or more.
    """
    rules: dict[str, tuple[Rule, ...]] = {}
    for name, value in outputs.items():
        if value.dtype.kind in 'iub':
            rules[name] = ()
        elif (value.ndim == 4 and min(value.shape[2:]) >= 8) or 'simcc' in name.lower():
            rules[name] = (Rule(relative=USUAL_RELATIVE, measure='peak', per=(0,), what='peaks'),)
        else:
            per = (1 + int(np.argmin(value.shape[1:])),) if value.ndim > 2 else ()
            rules[name] = (Rule(absolute=1e-4, relative=USUAL_RELATIVE, per=per),)
    for name, value in outputs.items():
        if _is_table(name, value):
            for other, rule in _of_boxes(name, value, outputs).items():
                rules[other] = (rule,)
    return rules


def _is_table(name: str, value: NDArray) -> bool:
    if value.ndim not in (2, 3) or value.shape[-1] not in _BOX_COLUMNS or value.dtype.kind != 'f':
        return False
    named = any(part in name.lower() for part in ('box', 'det'))
    return named or (value.ndim == 3 and value.shape[1] >= _MANY)


def _of_boxes(name: str, value: NDArray, outputs: Mapping[str, NDArray]) -> dict[str, Rule]:
    """Return the rules of a table of boxes, and of the output that holds their scores where that is another."""
    said: dict[str, Any] = {'absolute': 0.01, 'relative': 0.01, 'measure': 'rows', 'over': _SURE, 'what': 'boxes'}
    if value.shape[-1] > 4:
        return {name: Rule(**said, where=name, column=4)}
    scores = [other for other, values in outputs.items() if other != name and values.dtype.kind == 'f'
              and values.shape[:value.ndim - 1] == value.shape[:-1] and values.ndim in (value.ndim - 1, 3)]
    return {output: Rule(**said, where=scores[0]) for output in (name, *scores[:1])} if scores else {}


def _rule(said: Mapping[str, Any]) -> Rule:
    unknown = said.keys() - {field.name for field in fields(Rule)}
    if unknown:
        raise ValueError(f'{sorted(unknown)[0]!r} is not known')
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    return Rule(**values)
