"""Which camera is not where it says: how far what each camera sees lies from where the people are, over time.

Every sighting counts, also one that was taken from somebody or fits nobody, as long as other cameras see people there:
a camera far out of place fits nobody, and would look blameless if only what fits were measured. What would all come
right if the camera were turned a little is the error of its place (moved aside by a little looks the same). Its sigmas
grow by so much: it stops pulling people, the others' say grows, and its own error shows in full.

Where only two cameras see somebody, nobody can say which one is wrong: both are told so. That counts only for a camera
of which several others have not had their say lately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse import match
from pose3d_ros.fuse.observations import LEAST_JOINTS, Floats, Observations
from pose3d_ros.fuse.views import View

_WINDOW_S = 0.4      # of people in view, over which is averaged
_NAMED_S = 0.4       # a camera that is off for so long, with people in view, is out of place
_SILENT_S = 2.0      # so long what several others said of a camera stands against what one other says
_IDLE_S = 2.0        # what was known of a camera is forgotten after so long without anybody to compare, or to see
_REACH = 0.2         # rays; somebody that a camera sees farther from where he is is somebody else
_GOOD_WEIGHT = 0.9   # a camera with more counts in full
_NO_NEWS = 0.3       # shifts below this share of what a joint is known to in a view are as good as none
_OFF_WEIGHT, _OFF_SHARE = 0.7, 0.5   # a camera with less weight, or more of its sightings disagreeing, is off
_BESIDE = 3.0        # times the median; a joint farther from where the others say it is wrong
_RIDGE = 0.005       # against turning a camera wildly about its axis for people in the middle of its picture
_EVERY_S = 0.07      # no more often than so is anything taken in: a place that is wrong stays wrong for long
_STEP_S = 0.1        # and no call counts for more time: where calls are rare it still takes several to blame a camera


@dataclass(frozen=True)
class Drift:
    """How one camera agrees with the others.

    residual_px: median distance of joints from where they were expected; disagreeing: share of its sightings that fit
    nobody although others see people there; weight: 1 for a camera where it says, towards 0 the farther it is out of
    place; out_of_place: it is so far that this shows.
    """

    residual_px: float
    disagreeing: float
    weight: float
    out_of_place: bool


@dataclass
class _Camera:
    """Running means of one camera over seen_s seconds of people in view.

    matrix (3, 3), vector (3,): normal equations of the small rotation, turn (3,), that would put its rays where people
    are; weight: what a ray counts against what it would if the camera were where it says; residual and usual deviation
    of a joint, in rays; share of sightings that disagree. silent_s: s since several others had their say; off_s: s for
    which the camera has been off; idle_s: s since there was anything to compare; against: how many people spoke against
    it when it was last found off (one alone may be a stranger whom only it sees); focal: px.
    """

    matrix: Floats = field(default_factory=lambda: np.zeros((3, 3)))
    vector: Floats = field(default_factory=lambda: np.zeros(3))
    turn: Floats = field(default_factory=lambda: np.zeros(3))
    weight: float = 1.0
    residual: float = 0.0
    usual: float = 0.0
    disagreeing: float = 0.0
    seen_s: float = 0.0
    silent_s: float = np.inf
    off_s: float = 0.0
    idle_s: float = 0.0
    against: int = 0
    focal: float = 1.0

    def take(self, matrix: Floats, vector: Floats, residual: float, usual: float, disagreeing: float,
             step: float) -> None:
        """Take in the means of one call."""
        self.idle_s = 0.0
        self.seen_s = min(self.seen_s + step, _WINDOW_S)
        gain = step / self.seen_s
        self.matrix = self.matrix + gain * (matrix - self.matrix)
        self.vector = self.vector + gain * (vector - self.vector)
        self.residual += gain * (residual - self.residual)
        self.usual += gain * (usual - self.usual)
        self.disagreeing += gain * (disagreeing - self.disagreeing)
        self.turn = np.asarray(np.linalg.solve(self.matrix + _RIDGE * np.eye(3), self.vector))
        excess = float(_excess(self.turn @ self.matrix @ self.turn, self.usual))
        self.weight = self.usual**2 / (self.usual**2 + excess)
        off_now = self.weight < _OFF_WEIGHT or self.disagreeing > _OFF_SHARE
        self.off_s = self.off_s + step if off_now else 0.0

    @property
    def drift(self) -> Drift:
        """What is told."""
        return Drift(self.residual * self.focal, self.disagreeing, self.weight, self.off_s > _NAMED_S)


_NOTHING_KNOWN = _Camera()


class DriftWatch:
    """The drift of every camera. State: their running means, when and whom it last took in; `reset()`
    forgets."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every camera."""
        self._cameras: dict[str, _Camera] = {}
        self._waited_s, self._last = 0.0, set[str]()

    @property
    def drift(self) -> dict[str, Drift]:
        """What is known of each camera that saw people whom others saw, by name."""
        return {name: camera.drift for name, camera in sorted(self._cameras.items())}

    def off(self, seen: Observations) -> NDArray[np.bool_]:
        """Return which sightings (N,) are of cameras that are off now, if not for long enough to be named."""
        off = {name for name, camera in self._cameras.items() if camera.off_s > 0}
        return np.array([camera in off for camera, _ in seen.key], dtype=bool)

    def weighed(self, seen: Observations) -> Observations:
        """Return the sightings with sigmas and mono 3D of cameras as uncertain as these cameras have shown to be."""
        cameras = [self._cameras.get(name, _NOTHING_KNOWN) for name, _ in seen.key]
        if all(camera.weight > _GOOD_WEIGHT for camera in cameras):
            return seen
        turn, usual = np.array([camera.turn for camera in cameras]), np.array([camera.usual for camera in cameras])
        squared = ((_turned(seen.rays) @ turn[:, None, :, None])[..., 0]**2).sum(axis=-1)
        excess = _excess(squared, usual[:, None])
        depth = np.linalg.norm(seen.mono - seen.center[:, None], axis=-1)
        wider = (np.nanmean(excess, axis=1)[:, None] * depth**2)[..., None, None] * np.eye(3)
        return replace(seen, sigma=np.sqrt(seen.sigma**2 + excess), mono_covariance=seen.mono_covariance + wider)

    def update(self, seen: Observations, compared: match.Compared, row: NDArray[np.intp], meant: NDArray[np.intp],
               views: Sequence[View], step: float) -> None:
        """Take in a call.

        seen, compared: the sightings with the sigmas they came with, against the people expected; row (N,): whose each
        was found to be, -1 for nobody's; meant (N,): whose it is by its camera's own tracker, -1 where that does not
        know; step: s since the last call.
        """
        self._waited_s += step
        cameras = {view.camera for view in views}
        settled = self._cameras and all(camera.seen_s >= _WINDOW_S for camera in self._cameras.values())
        if settled and self._waited_s < _EVERY_S and cameras == self._last:   # cameras in turn must all have their say
            return
        step, self._waited_s, self._last = min(self._waited_s, _STEP_S), 0.0, cameras
        self._cameras = {name: camera for name, camera in self._cameras.items() if camera.idle_s < _IDLE_S}
        seeing = {name for name, _ in seen.key}
        for name, camera in self._cameras.items():
            camera.silent_s += step
            if camera.against < 2 or name not in seeing:
                camera.idle_s += step  # else it is so far off that it compares with nobody any more
        whose = _whose(seen, compared.projected, row, meant)
        off, residual, usual = _apart(seen, compared, whose)
        wrong = np.where(whose >= 0, compared.cost[whose, np.arange(len(seen))], 0.0) >= match.GATE
        whose[np.isnan(residual)] = -1
        sees = np.zeros((len(compared.cost) + 1, len(views)), dtype=bool)   # the last row is nobody's
        sees[whose, seen.view] = True
        count = np.where(whose >= 0, sees.sum(axis=1)[whose], 0)
        for person in set(whose[count == 2].tolist()):  # nobody can say which of two is wrong
            pair = np.flatnonzero((whose == person) & (count == 2))
            worse = pair[np.argmax(residual[pair])]
            off[pair], residual[pair], wrong[pair] = off[worse], residual[worse], wrong[worse]
        matrix, vector, given = _normal_equations(seen.rays, off)
        for index, view in enumerate(views):
            mine = seen.view == index
            told, clear = mine & (count >= 2), mine & (count >= 3)
            if not told.any():
                continue
            camera = self._cameras.setdefault(view.camera, _Camera())
            camera.focal = view.focal
            if clear.any():
                camera.silent_s, told = 0.0, clear
            elif camera.silent_s < _SILENT_S:
                continue
            share = float(wrong[told].mean())
            fit = told & ~wrong if share < 0.5 else told   # one who is taken for another turns no camera
            joints = given[fit].sum()
            if joints:
                camera.take(matrix[fit].sum(axis=0) / joints, vector[fit].sum(axis=0) / joints,
                            float(residual[told].mean()), float(usual[told].mean()), share, step)
                camera.against = len(set(whose[told].tolist())) if camera.off_s > 0 else 0


def _normal_equations(rays: Floats, off: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return matrix (N, 3, 3) and vector (N, 3) of the rotations that take rays (N, 12, 2) off by so much back there.

    And how many joints (N,) they rest on.
    """
    given = np.isfinite(off[..., :1]) & np.isfinite(rays[..., :1])
    slopes = np.where(given[..., None], _turned(rays), 0.0).reshape(len(rays), -1, 3)
    right = np.where(given, off, 0.0).reshape(len(rays), -1, 1)
    across = np.swapaxes(slopes, 1, 2)
    return across @ slopes, (across @ right)[..., 0], given.sum(axis=(1, 2))


def _excess(squared: Floats, usual: Floats | float) -> Floats:
    """Return the variance to be added to rays that are off by so much, squared; usual: deviation of a joint."""
    return np.asarray(np.maximum(squared - (_NO_NEWS * usual)**2, 0.0))


def _whose(seen: Observations, projected: Floats, row: NDArray[np.intp], meant: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return whose (N,) each sighting most likely is, -1 for nobody's whom another camera sees.

    Who was found; else who is meant; else the nearest whom its view has not found.
    """
    whose = row.copy()
    found = np.zeros((len(projected), int(seen.view.max()) + 1), dtype=bool)   # whom each view found
    found[row[row >= 0], seen.view[row >= 0]] = True
    for n in np.flatnonzero((row < 0) | (row != meant)):
        near = _median(seen.rays[n] - projected[:, n])
        away = np.hypot(near[:, 0], near[:, 1])
        if row[n] >= 0:   # a camera that counts for little fits somebody who is far away
            whose[n] = row[n] if away[row[n]] < _REACH else -1
            continue
        free = found.any(axis=1) & ~found[:, seen.view[n]]
        if meant[n] >= 0 and free[meant[n]]:
            whose[n] = meant[n]
        elif free.any():
            away = np.where(free & np.isfinite(away), away, np.inf)
            whose[n] = away.argmin() if away.min() < _REACH else -1
    return whose


def _apart(seen: Observations, compared: match.Compared, whose: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Return how far each sighting is from its person: off (N, 12, 2), its median (N,), the usual one (N,), in rays.

    Joints far from the others' median (outliers, exchanged sides) are NaN; so is everything of too few joints.
    """
    off = seen.rays - compared.projected[whose, np.arange(len(seen))]
    off[whose < 0] = np.nan
    spread = compared.spread[:, whose, np.arange(len(seen))]   # wide after a gap: nobody knows then where people are
    variance = compared.own[whose, np.arange(len(seen))] + (spread[0] + spread[2]) / 2 + seen.sigma**2
    sizes = np.stack([np.hypot(off[..., 0], off[..., 1]), np.sqrt(variance)], axis=-1)
    sizes[np.isfinite(off[..., 0]).sum(axis=1) < LEAST_JOINTS] = np.nan
    residual, usual = _median(sizes).T
    beside = np.linalg.norm(off - _median(off)[:, None], axis=-1)
    with np.errstate(invalid='ignore'):
        off = np.where((beside <= _BESIDE * _median(beside[..., None]))[..., None], off, np.nan)
    return off, residual, usual


def _turned(rays: Floats) -> Floats:
    """Return how rays (..., 2) move when the camera's rays are turned about x, y, z by a little: (..., 2, 3)."""
    x, y, one = rays[..., 0], rays[..., 1], np.ones(rays.shape[:-1])
    return np.stack([np.stack([-x * y, one + x**2, -y], axis=-1), np.stack([-one - y**2, x * y, x], axis=-1)], axis=-2)


def _median(values: Floats) -> Floats:
    """Return the median (..., K) over the joints of values (..., 12, K); NaN where there are none."""
    count = np.isfinite(values).sum(axis=-2, keepdims=True)
    ordered = np.sort(values, axis=-2)  # NaN goes last
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-2)
    return np.asarray((middle + np.take_along_axis(ordered, count // 2, axis=-2))[..., 0, :] / 2)
