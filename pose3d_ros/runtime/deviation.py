"""How far an engine's outputs are from the reference's, in units of what a rule allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.tolerances import Rule

_BEST_ROWS = 20    # of a table of boxes count where no row does


@dataclass(frozen=True)
class Worst:
    """The largest deviation under one rule: in units of its tolerance, as it is, and what would be allowed there."""

    share: float
    amount: float = 0.0
    allowed: float = 0.0
    said: str = ''

    def describe(self, name: str, rule: Rule) -> str:
        unit = f' {rule.unit}' if rule.unit else ''
        what = f'{name} ({rule.what})' if rule.what else name
        return f'{what} {self.said or f"off by {self.amount:.2g}{unit}, allowed {self.allowed:.2g}{unit}"}'


def worst_of(name: str, rule: Rule, found: Sequence[Mapping[str, NDArray]],
           expected: Sequence[Mapping[str, NDArray]]) -> Worst:
    """Return the largest deviation of one output under one rule, over all batches."""
    for ours, theirs in zip(found, expected):
        if name not in ours:
            return Worst(np.inf, said='is missing')
        if ours[name].shape != theirs[name].shape and rule.measure != 'rows':
            return Worst(np.inf, said=f'{ours[name].shape} instead of {theirs[name].shape}')
    if rule.measure == 'rows':
        return _worst_row(name, rule, found, expected)
    all_places = np.array(True)
    wheres = [_told(rule, batch, name) > rule.over if rule.where else all_places for batch in expected]
    if not any(where.any() for where in wheres):
        wheres = [all_places] * len(expected)
    worst = Worst(0.0)
    for ours, theirs, where in zip(found, expected, wheres):
        one = _deviation(rule, _picked(ours[name], rule), _picked(theirs[name], rule), where)
        worst = max(worst, one, key=lambda value: value.share)
    return worst


def _told(rule: Rule, batch: Mapping[str, NDArray], name: str) -> NDArray:
    """Return what tells whether a place counts."""
    values = batch[rule.where or name]
    return values[..., rule.column] if rule.column >= 0 else values


def _worst_row(name: str, rule: Rule, found: Sequence[Mapping[str, NDArray]],
               expected: Sequence[Mapping[str, NDArray]]) -> Worst:
    """Return the row of a table that has the worst counterpart in the other table; see Rule."""
    tables = [[_table(batch[name], _told(rule, batch, name).ndim) for batch in batches]
              for batches in (found, expected)]
    scores = [[_row_scores(rule, batch, name, len(table)) for batch, table in zip(batches, group)]
              for batches, group in zip((found, expected), tables)]
    every = np.concatenate([score.ravel() for score in scores[1]])
    over = rule.over
    if not (every > over).any() and every.size:
        over = np.nextafter(np.sort(every)[-_BEST_ROWS:][0], -np.inf)
    worst = Worst(0.0)
    for ours, theirs, our_scores, their_scores in zip(*tables, *scores):
        if not np.isfinite(ours).all() and np.isfinite(theirs).all():
            return Worst(np.inf, said=f'not finite at {_place((~np.isfinite(ours)).argmax(), ours)}')
        allowed = rule.absolute + rule.relative * np.abs(theirs).max(axis=(0, 1), initial=0)
        for one, other, score in ((theirs, ours, their_scores), (ours, theirs, our_scores)):
            for item in range(len(theirs)):
                for row in one[item][score[item] > over]:
                    worst = max(worst, _likest(row, other[item], allowed), key=lambda value: value.share)
    return worst


def _likest(row: NDArray, rows: NDArray, allowed: NDArray) -> Worst:
    """Return how far a row is from the one that is most like it."""
    if not len(rows):
        return Worst(np.inf, said='has a row too many or too few')
    off, allowed = np.abs(rows - row), np.maximum(allowed, 1e-30)
    like = int((off / allowed).max(axis=1).argmin())
    column = int((off[like] / allowed).argmax())
    amount, most = float(off[like, column]), float(allowed[column])
    return Worst(amount / most, amount, most)


def _table(values: NDArray, axes: int) -> NDArray[np.float64]:
    """Return a table as (N, K, columns); the axes of its scores tell what an output of two axes is."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 2:
        return values[..., None] if axes == 2 else values[None]
    return values[None, :, None] if values.ndim == 1 else values


def _row_scores(rule: Rule, batch: Mapping[str, NDArray], name: str, count: int) -> NDArray:
    """Return the scores (N, K) of a table's rows."""
    told = np.asarray(_told(rule, batch, name), dtype=np.float64)
    told = told.max(axis=-1) if told.ndim > 2 else told
    return told.reshape(count, -1)


def _picked(values: NDArray, rule: Rule) -> NDArray[np.float64]:
    """Return what a rule looks at, as (N, ...) float64."""
    values = np.asarray(values, dtype=np.float64)
    if rule.every:
        values = values.reshape(*values.shape[:-1], -1, rule.every)[..., rule.take or slice(None)]
    return values


def _deviation(rule: Rule, ours: NDArray, theirs: NDArray, places: NDArray) -> Worst:
    where: NDArray = places.reshape(places.shape + (1,) * (theirs.ndim - places.ndim))
    where = np.broadcast_to(where, theirs.shape) & np.isfinite(theirs)
    if (bad := where & ~np.isfinite(ours)).any():
        return Worst(np.inf, said=f'not finite at {_place(bad.argmax(), theirs)}')
    if not where.any():
        return Worst(0.0)
    if rule.measure == 'sigmoid':
        ours, theirs = _sigmoid(ours), _sigmoid(theirs)
    magnitude = np.where(np.isfinite(theirs), np.abs(theirs), 0)
    across = tuple(axis for axis in range(theirs.ndim) if axis not in rule.per)
    allowed = rule.absolute + rule.relative * np.broadcast_to(magnitude.max(axis=across, keepdims=True), theirs.shape)
    if rule.measure == 'peak':
        off, allowed = _peaks(ours, theirs, where), allowed.reshape(*theirs.shape[:2], -1)[..., 0]
    else:
        off = np.where(where, np.abs(np.where(where, ours, 0) - np.where(where, theirs, 0)), 0)
    # Where nothing is allowed, as in a column of zeros, nothing may be off.
    share = np.divide(off, allowed, out=np.where(off > 0, np.inf, 0.0), where=allowed > 0)
    at = int(share.argmax())
    return Worst(float(share.flat[at]), float(off.flat[at]), float(allowed.flat[at]))


def _peaks(ours: NDArray, theirs: NDArray, where: NDArray) -> NDArray[np.float64]:
    """Return how far the peaks (N, K) of maps (N, K, ...) are off; see Rule."""
    ours, theirs, where = (values.reshape(*values.shape[:2], -1) for values in (ours, theirs, where))
    low = np.where(where, theirs, -np.inf)
    place, taken = (np.where(where, values, -np.inf).argmax(axis=2)[..., None] for values in (theirs, ours))
    height = np.take_along_axis(low, place, axis=2)[..., 0]
    off = np.maximum(np.abs(np.take_along_axis(ours, place, axis=2)[..., 0] - height),
                     height - np.take_along_axis(low, taken, axis=2)[..., 0])
    return np.where(where.any(axis=2), off, 0)


def _sigmoid(logits: NDArray) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def _place(index: np.intp, values: NDArray) -> str:
    return str([int(place) for place in np.unravel_index(index, values.shape)])
