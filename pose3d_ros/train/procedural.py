"""People who move by formulas: for tests, and for trying the training without any recording.

Feet and hands are led along smooth paths, and knees and elbows follow from the bone lengths, so that bones keep their
lengths and feet stay on the floor. It is no stand-in for recordings: nobody moves quite like this.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.figure import Body, Posture, joints_of
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.readers.clip import Clip

STATURE_RANGE = (1.5, 1.9)   # m
ANKLE_HEIGHT = 0.08          # m above the floor, of a foot that stands
CLIP_SECONDS = 8.0
# Where a hand reaches, in arm's lengths from the shoulder: outwards, ahead, up.
_REACHES = {'ahead': (0.1, 0.85, 0.1), 'aside': (0.85, 0.2, 0.1), 'up': (0.1, 0.3, 0.9), 'down': (0.1, 0.4, -0.9)}
PEOPLE = {'train': 4, 'val': 1, 'test': 1}


def walk(body: Body, t: NDArray, rng: np.random.Generator) -> Posture:
    """Walk along a winding path at 0.5 to 1.3 m/s."""
    pace = rng.uniform(0.5, 1.3) * body.leg / 0.85
    step = np.gradient(t)
    heading = rng.uniform(-np.pi, np.pi) + rng.uniform(-0.3, 0.3) * t + sway(rng, t, 0.5, 5.0)
    speed = pace * (1 + sway(rng, t, 0.15, 4.0))
    ahead = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
    place = np.cumsum(speed[:, None] * ahead * step[:, None], axis=0)
    rate = 0.55 + 0.4 * pace  # strides per second
    phase = rate * (t - t[0]) + rng.uniform(0, 1)
    posture = still(body, t, rng, place, heading)
    posture.height = posture.height - 0.015 * body.leg + 0.012 * np.cos(4 * np.pi * phase)
    for index, sign in enumerate((-1.0, 1.0)):
        own = phase + 0.5 * index
        stride = np.floor(own)
        # A foot stands for 55 % of a stride, then swings to where it stands next.
        ease = 0.5 - 0.5 * np.cos(np.pi * np.clip((own - stride - 0.55) / 0.45, 0, 1))
        middle = (stride + 0.275 - 0.5 * index - phase[0]) / rate + t[0]  # of this stand, in time
        stands = [_beside(t, place, heading, middle + k / rate, sign * body.hips) for k in (0, 1)]
        posture.ankles[:, index, :2] = stands[0] + ease[:, None] * (stands[1] - stands[0])
        posture.ankles[:, index, 2] += 0.09 * np.sin(np.pi * ease) ** 2
        # The arms swing against the legs.
        posture.hands[:, index, 1] += 0.18 * pace * np.sin(2 * np.pi * (phase + 0.5 * index) - 0.4)
    posture.twist = posture.twist + 0.08 * pace * np.sin(2 * np.pi * phase - 0.4)
    posture.lean = posture.lean + 0.04 * pace
    return posture


def gesture(body: Body, t: NDArray, rng: np.random.Generator) -> Posture:
    """Stand and speak with the hands."""
    posture = still(body, t, rng)
    for index, sign in enumerate((-1.0, 1.0)):
        aim = (body.upper_arm + body.forearm) * np.stack(
            [-0.3 * sign + sway(rng, t, 0.25, 1.8), 0.55 + sway(rng, t, 0.2, 1.5), -0.35 + sway(rng, t, 0.35, 1.6)],
            axis=-1)
        posture.hands[:, index] = _blend(posture.hands[:, index], aim, there_and_back(t, rng))
    return posture


def reach(body: Body, t: NDArray, rng: np.random.Generator) -> Posture:
    """Reach with one hand: ahead, aside, up, or down to the floor."""
    posture = still(body, t, rng)
    index, share = int(rng.integers(2)), there_and_back(t, rng)
    sign = 2.0 * index - 1.0
    arm = body.upper_arm + body.forearm
    kind, (aside, ahead, up) = list(_REACHES.items())[int(rng.integers(len(_REACHES)))]
    posture.hands[:, index] = _blend(posture.hands[:, index], arm * np.array([sign * aside, ahead, up]), share)
    if kind == 'down':
        _lower(body, posture, share, rng.uniform(0.55, 0.75), lean=0.8)
    else:
        posture.lean = posture.lean + (0.2 if kind == 'ahead' else 0.0) * share
        posture.side = posture.side + (0.15 * sign if kind == 'aside' else 0.0) * share
    return posture


def sit_down(body: Body, t: NDArray, rng: np.random.Generator) -> Posture:
    """Sit down on a seat, stay, and get up; the hands rest on the thighs."""
    posture = still(body, t, rng)
    share = there_and_back(t, rng)
    _lower(body, posture, share, rng.uniform(0.48, 0.62), back=0.5, lean=rng.uniform(-0.1, 0.2), bow=0.6)
    for index, sign in enumerate((-1.0, 1.0)):
        rest = (body.upper_arm + body.forearm) * np.array([-0.1 * sign, 0.45, -0.7])
        posture.hands[:, index] = _blend(posture.hands[:, index], rest, share)
    return posture


def squat(body: Body, t: NDArray, rng: np.random.Generator) -> Posture:
    """Squat down and come up again, the hands held ahead."""
    posture = still(body, t, rng)
    share = there_and_back(t, rng)
    _lower(body, posture, share, rng.uniform(0.35, 0.6), back=0.12, lean=rng.uniform(0.3, 0.7))
    ahead = (body.upper_arm + body.forearm) * np.array([0.0, 0.8, 0.1])
    posture.hands[:] = _blend(posture.hands, ahead, share[:, None])
    return posture


def wave(body: Body, t: NDArray, rng: np.random.Generator) -> Posture:
    """Stand and wave with one hand beside the head."""
    posture = still(body, t, rng)
    index = int(rng.integers(2))
    sign, arm = 2.0 * index - 1.0, body.upper_arm + body.forearm
    swing = 0.16 * np.sin(2 * np.pi * rng.uniform(0.8, 1.6) * t)
    up = arm * np.stack([sign * (0.4 + swing), np.full_like(t, 0.25), np.full_like(t, 0.75)], axis=-1)
    posture.hands[:, index] = _blend(posture.hands[:, index], up, there_and_back(t, rng))
    return posture


ACTIVITIES: dict[str, Callable[[Body, NDArray, np.random.Generator], Posture]] = {
    'walk': walk, 'gesture': gesture, 'reach': reach, 'sit_down': sit_down, 'squat': squat, 'wave': wave}


def still(body: Body, t: NDArray, rng: np.random.Generator, place: NDArray | None = None,
          heading: NDArray | None = None) -> Posture:
    """Stand with hanging arms and a little sway; with place (T, 2) and heading (T,): be there (feet on the spot)."""
    if heading is None:
        heading = np.full_like(t, rng.uniform(-np.pi, np.pi))
    if place is None:
        place = np.zeros((len(t), 2))
        feet = [_beside(t, place, heading, t, 1.3 * sign * body.hips) for sign in (-1.0, 1.0)]
        place = place + np.stack([sway(rng, t, 0.015, 4.0), sway(rng, t, 0.015, 4.0)], axis=-1)
    else:
        feet = [place, place]
    floor = np.full((len(t), 2, 1), ANKLE_HEIGHT)
    arm = 0.93 * (body.upper_arm + body.forearm)
    hands = np.array([[-0.18, 0.12, -0.97], [0.18, 0.12, -0.97]]) * arm
    return Posture(
        place, heading, ANKLE_HEIGHT + 0.96 * body.leg + sway(rng, t, 0.004, 3.0), 0.03 + sway(rng, t, 0.03, 4.0),
        sway(rng, t, 0.03, 5.0), sway(rng, t, 0.08, 4.0), 0.1 + sway(rng, t, 0.12, 3.0), sway(rng, t, 0.4, 4.0),
        np.concatenate([np.stack(feet, axis=1), floor], axis=-1), hands + np.zeros((len(t), 1, 1)))


def sway(rng: np.random.Generator, t: NDArray, size: float, period: float) -> NDArray:
    """Return smooth noise (T,): three sines of about this period (s), within +-size."""
    periods, phases = period * rng.uniform(0.8, 2.5, 3), rng.uniform(0, 2 * np.pi, 3)
    return size / 3 * np.sin(2 * np.pi * t[:, None] / periods + phases).sum(axis=-1)


def there_and_back(t: NDArray, rng: np.random.Generator) -> NDArray:
    """Return 0 .. 1 .. 0 again and again (T,), smoothly: 1.2 to 2 s each way, as long at either end."""
    ramp = rng.uniform(1.2, 2.0)
    along = np.clip(2 * np.abs(((t - t[0]) / (4 * ramp) + rng.uniform(0, 1)) % 1.0 * 2 - 1) - 0.5, 0, 1)
    return along**3 * (10 - 15 * along + 6 * along**2)


def procedural_clips(seed: int = 0, clips: int = 36, seconds: float = CLIP_SECONDS, fps: float = 30.0) -> list[Clip]:
    """Return clips of made-up people, one of ACTIVITIES each: four people to train on, one each for val and test."""
    names = [(split, f'{split}_{number}') for split, count in PEOPLE.items() for number in range(count)]
    made = []
    for number in range(clips):
        split, subject = names[number % len(names)]
        person = np.random.default_rng([seed, number % len(names)])
        body = Body.of(person.uniform(*STATURE_RANGE), person)
        activity = list(ACTIVITIES)[(number + number // len(names)) % len(ACTIVITIES)]
        # Time starts long after 0, so that the sines of different clips differ in more than their phase.
        t = 100.0 + np.arange(max(round(seconds * fps), 2)) / fps
        posture = ACTIVITIES[activity](body, t, np.random.default_rng([seed, 1000 + number]))
        made.append(Clip(f'{subject}_{activity}_{number}', subject, joints_of(body, posture), fps, 'procedural', split))
    return made


def procedural_mocap(seed: int = 0, clips: int = 36, seconds: float = CLIP_SECONDS, fps: float = 30.0,
                     split: str = 'train') -> Mocap:
    """Return the clips of one split as training takes them: 'train' (of every six, four), 'val' or 'test' (one each).

    Raises ValueError.
    """
    chosen = [clip for clip in procedural_clips(seed, clips, seconds, fps) if clip.split == split]
    if not chosen:
        raise ValueError(f'no clip of split {split!r} among {clips}: six clips hold all three')
    return Mocap(np.concatenate([clip.positions for clip in chosen]).astype(np.float32),
                 np.repeat(np.arange(len(chosen)), [len(clip) for clip in chosen]),
                 tuple(clip.name for clip in chosen), tuple(clip.subject for clip in chosen), fps)


def _lower(body: Body, posture: Posture, share: NDArray, height: float, back: float = 0.25, lean: float = 0.0,
           bow: float = 0.0) -> None:
    """Bring the pelvis down to `height` of its own and back by `back` thighs; lean, and bow on the way (rad)."""
    posture.height = posture.height * (1 - share * (1 - height))
    ahead = np.stack([-np.sin(posture.heading), np.cos(posture.heading)], axis=-1)
    posture.place = posture.place - (share * back * body.thigh)[:, None] * ahead
    posture.lean = posture.lean + lean * share + bow * 4 * share * (1 - share)


def _blend(start: NDArray, end: NDArray, share: NDArray) -> NDArray:
    return start + share[..., None] * (end - start)


def _beside(t: NDArray, place: NDArray, heading: NDArray, when: NDArray, aside: float) -> NDArray:
    """Return the points (T, 2) that lie `aside` to the right of the path at the times `when`."""
    when = np.asarray(when)
    turned = np.interp(when, t, heading)
    middle = np.stack([_extended(when, t, place[:, axis]) for axis in (0, 1)], axis=-1)
    return middle + aside * np.stack([np.cos(turned), np.sin(turned)], axis=-1)


def _extended(when: NDArray, t: NDArray, values: NDArray) -> NDArray:
    """Interpolate; before and after the path, go on at the speed of its ends."""
    first, last = ((values[b] - values[a]) / (t[b] - t[a]) for a, b in ((0, 1), (-2, -1)))
    return np.interp(when, t, values) + np.minimum(when - t[0], 0) * first + np.maximum(when - t[-1], 0) * last
