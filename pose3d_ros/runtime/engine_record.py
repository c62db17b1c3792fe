"""What an engine is found by, and what is written down about one beside it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from pose3d_ros.runtime.backend import Target

# Raise it when models are prepared or engines are checked in another way: what is cached then counts as missing.
RECIPE = '1'


@dataclass(frozen=True)
class Key:
    """What an engine depends on. model: name of the file; precision: tried first; most: largest batch."""

    model: str
    model_sha256: str
    target: Target
    precision: str
    most: int
    recipe: str = RECIPE

    @property
    def name(self) -> str:
        """Name of the engine's files, without their ending."""
        return f'{_plain(self.model)}-{_digest([self.model_sha256, asdict(self.target), *self._settings()])}'

    def _settings(self) -> list[Any]:
        return [self.precision, self.most, self.recipe]


@dataclass(frozen=True)
class Record:
    """What is known about an engine. wanted: precision that was tried first; precision: what it became, '' if given up.

    build_s: of the one that is kept, s. built: date and time, UTC. check: a line for every precision that was tried.
    given_up: why there is none, '' where there is one.
    """

    model: str
    model_sha256: str
    runtime: str
    version: str
    device: str
    capability: str
    wanted: str
    most: int
    recipe: str
    precision: str
    plan_sha256: str
    plan_bytes: int
    build_s: float
    built: str
    check: tuple[str, ...]
    given_up: str

    @property
    def target(self) -> Target:
        """What it runs on."""
        return Target(self.runtime, self.version, self.device, self.capability)

    def belongs_to(self, key: Key) -> bool:
        """Tell whether it is the record of that engine."""
        return (self.model_sha256, self.target, self.wanted, self.most, self.recipe) == (
            key.model_sha256, key.target, key.precision, key.most, key.recipe)

    def to_json(self) -> bytes:
        """Return the content of the file."""
        values = asdict(self) | {'check': list(self.check)}
        return json.dumps(values | {'record_sha256': _sha256(values)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Record:
        """Return what to_json() wrote. Raises ValueError for anything else."""
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'its record is damaged ({error})') from error
        kinds = {'most': int, 'plan_bytes': int, 'build_s': float, 'check': list}
        if not isinstance(values, dict) or values.keys() != {'record_sha256', *(each.name for each in fields(cls))}:
            raise ValueError('its record was written by another version of this package')
        expected = values.pop('record_sha256')
        if any(type(value) is not kinds.get(name, str) for name, value in values.items()) or \
                _sha256(values) != expected:
            raise ValueError('its record was altered')
        return cls(**values | {'check': tuple(values['check'])})


def target_name(target: Target) -> str:
    """Return a file name for what belongs to a processor."""
    return f'{_plain(target.device)}-{_digest(asdict(target))}'


def _plain(text: str) -> str:
    return re.sub(r'[^A-Za-z0-9_]+', '_', text)[:60]


def _digest(value: Any) -> str:
    return _sha256(value)[:20]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
