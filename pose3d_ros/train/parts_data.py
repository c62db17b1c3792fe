"""What the parts network learns from: single frames of people before virtual robot cameras, drawn once and kept.

All variants of the ablation see the same people, errors and order, so that what differs is the network. The people are
those of the lifter that ships (train/samples.py), of whom only the newest frame is looked at.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.attributes import relative_distances
from pose3d_ros.lift import INPUTS, input_points
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.skeleton import HUMAN17, mirrored
from pose3d_ros.train.lifter import LifterSettings, known_up
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.samples import STEADY, Samples, SampleSettings, Scenes, detect, make_scenes

POOL = 8192   # people drawn at a time
USES = 2      # of each person and camera, every time with other errors and hidden joints
KNOW_UP = 0.5  # share of people whose upward direction is told
PEOPLE_SEED = 0


class PeopleError(ValueError):
    """A file of people that cannot be used; the message names it, the reason and the cure."""


@dataclass(frozen=True)
class People:
    """N people in one frame each.

    features (N, 46): what the network is shown (nets/window.py, Look.now); pose (N, 17, 3): the truth against the
    pelvis in statures, in the frame of the camera turned towards the person; distances (N, 9): of the attribute joints
    to the torso plane in trunk lengths, NaN where it cannot be told; stature (N,) m; start (N, 17, 3): what a window
    lifter makes of them, in the unit and frame of pose, or (N, 0, 3) where none was asked.
    """

    features: NDArray[np.float32]
    pose: NDArray[np.float32]
    distances: NDArray[np.float32]
    stature: NDArray[np.float32]
    start: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidences (N, 13) of the input joints, 0 where hidden."""
        return self.features[:, 2:3 * len(INPUTS):3]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Who is in view with all input joints (N,)."""
        return np.asarray((self.confidence > 0).all(axis=1))

    def where(self, chosen: NDArray | slice) -> People:
        """Return some of the people."""
        return People(*(getattr(self, part.name)[chosen] for part in fields(self)))


def viewer() -> WindowLifter:
    """Return a lifter of one frame, whose layers nobody asks: it shows people as every lifter is shown them."""
    other_side = [INPUTS.index(mirrored(joint)) for joint in INPUTS]
    return WindowLifter(input_points().tolist(), other_side, HUMAN17.mirror.tolist(), 1, width=8, blocks=0)


def draw(mocap: Mocap, count: int, rng: np.random.Generator, settings: SampleSettings, uses: int = 1,
         weights: NDArray | None = None, know_up: float = 0.0, lifter: WindowLifter | None = None) -> People:
    """Draw people, each seen `uses` times with other errors and hidden joints; count: of all that comes out.

    weights: the chance of each frame of the motion capture; know_up: share whose upward direction is told; lifter: who
    says what to start from, shown the past of these people too; without one, no past is drawn.
    """
    window = lifter or viewer()
    if lifter is None:
        settings = replace(settings, window=STEADY)
    told = replace(LifterSettings(), know_up=know_up)
    parts = []
    for left in range(count, 0, -POOL * uses):
        scenes = make_scenes(mocap, -(-min(left, POOL * uses) // uses), rng, settings, weights)
        scenes = _newest(scenes) if lifter is None else scenes
        parts += [_shown(detect(scenes, rng, settings), window, lifter is not None, told, rng) for _ in range(uses)]
    everybody = [np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(People)]
    return People(*everybody).where(rng.permutation(len(everybody[0]))[:count])


def _newest(scenes: Scenes) -> Scenes:
    """Return scenes of the newest frame alone."""
    return replace(scenes, rays=scenes.rays[:, :1], seen=scenes.seen[:, :1], age=scenes.age[:, :1],
                   image_size=scenes.image_size[:, :1])


@torch.no_grad()
def _shown(samples: Samples, window: WindowLifter, start: bool, told: LifterSettings,
           rng: np.random.Generator) -> People:
    up, landmarks = known_up(samples.up, told, rng), samples.landmarks[:, None]
    look, turned, turn = window.look(*map(torch.from_numpy, (samples.rays, samples.confidence, samples.age, up,
                                                             landmarks)))
    pose = samples.relative @ turn.numpy().transpose(0, 2, 1) / samples.stature[:, None, None]
    begin = (window.answer(look, turned, turn, both_ways=True).relative.numpy() if start
             else np.zeros((len(samples), 0, 3), np.float32))
    return People(look.now().numpy(), pose, relative_distances(samples.points).astype(np.float32), samples.stature,
                  begin)


def kept(path: Path, identity: Mapping[str, Any], make: Callable[[], People]) -> People:
    """Return the people of a file, or make them and write it.

    identity: what they were drawn from and how (JSON values). Raises PeopleError where the file has other people.
    """
    wanted = json.dumps(dict(identity), sort_keys=True)
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as data:
                found, people = str(data['identity']), People(*(data[field.name] for field in fields(People)))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise PeopleError(f'{path} is not a file of people ({error}); delete it to draw them anew') from error
        if found != wanted:
            raise PeopleError(f'{path} has people drawn otherwise: {found}, not {wanted}; use another --out')
        return people
    people = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.stem}.part.npz')
    np.savez(part, identity=np.array(wanted), **{field.name: getattr(people, field.name) for field in fields(People)})
    part.replace(path)
    return people
