"""The engines in the cache: what they are, which are of no use any more, and removing them."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pose3d_ros.runtime.backend import Target
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.engine_record import RECIPE, Record

_OLD_S = 3600.0  # a partial file that is older belongs to nobody any more


@dataclass(frozen=True)
class Kept:
    """An engine in the cache. file: its record; stale: why it will not be used any more, '' where it may be."""

    file: Path
    record: Record | None
    stale: str

    @property
    def text(self) -> str:
        """What it is, in a line."""
        record = self.record
        if record is None:
            return f'{self.file.name}: {self.stale}'
        where = f'{record.runtime} {record.version} on {record.device}, up to {record.most} at once'
        if record.given_up:
            return f'{where}: given up, {record.built} UTC; {"; ".join(record.check)}'
        return (f'{where}: {record.precision}, {record.plan_bytes / 1e6:.1f} MB, built in {record.build_s:.0f} s, '
                f'{record.built} UTC; {"; ".join(record.check)}')


def kept_engines(cache: EngineCache, target: Target | None, models: Mapping[str, Path]) -> list[Kept]:
    """Return what the cache holds.

    target: what engines would be built for now, None where none can be. models: the networks in use, by name; of others
    nothing is known, and their engines do not count as stale.
    """
    known = dict(cache.records())
    hashes = {name: _sha256(path) for name, path in models.items()}
    kept = [Kept(file, record, _stale(record, target, hashes)) for file, record in known.items()]
    for file in sorted(cache.folder.glob('*.json')):
        if file not in known:
            kept.append(Kept(file, None, cache.unsafe() or 'its record cannot be read'))
    for file in sorted(cache.folder.glob('*.plan')):
        if not file.with_suffix('.json').exists():
            kept.append(Kept(file.with_suffix('.json'), None, 'an engine without its record'))
    return kept


def clear(cache: EngineCache, kept: list[Kept], everything: bool) -> Iterator[Path]:
    """Remove engines and yield their records' files. everything: also what builds have learned about processors.

    Raises OSError for what cannot be removed.
    """
    for engine in kept:
        for file in (engine.file, engine.file.with_suffix('.plan')):  # in this order: no record without its engine
            file.unlink(missing_ok=True)
        yield engine.file
    for file in cache.folder.glob('*.tmp'):
        with contextlib.suppress(FileNotFoundError):  # of a build that has just ended
            if time.time() - file.stat().st_mtime > _OLD_S:
                file.unlink()
    if everything:
        for file in cache.folder.glob('*.timing'):
            file.unlink(missing_ok=True)


def _stale(record: Record, target: Target | None, hashes: Mapping[str, str]) -> str:
    if record.recipe != RECIPE:
        return 'prepared by another version of pose3d_ros'
    if hashes.get(record.model, record.model_sha256) != record.model_sha256:
        return f'made from another file than the {record.model} that is in use'
    if target is None or record.target == target:
        return ''
    if (record.device, record.capability) != (target.device, target.capability):
        return f'for another GPU: {record.device} {record.capability}, here is {target.device} {target.capability}'
    return f'built by {record.runtime} {record.version}, here is {target.runtime} {target.version}'


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
