"""The detection stage: the people of one frame, with their joints in the image."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import people, regions
from pose3d_ros.detect.blazepose import JOINTS, LandmarkModel, Poses
from pose3d_ros.detect.finds import BODY_CIRCLE, MID_HIP, Finds, close, without_repeats
from pose3d_ros.detect.search import TileSearch
from pose3d_ros.records import Frame, Person2D
from pose3d_ros.runtime.engine import Engine, Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.runtime.store import ModelStore

_SPARE = 3  # candidates looked at beyond the room that is left, as some are nobody
_ROOM = 1.5  # how far about a lost person the search looks again, in radii of the circle about the body

MODELS = ('lite', 'full', 'heavy')


@dataclass(frozen=True)
class DetectSettings:
    """How to look for people.

    search_period: frames over which one round of the search through the whole image is spread, 1..1000. Somebody new is
    seen after that many frames at most, near the camera after half as many.
    min_person_height: of the smallest person to find, as a fraction of the image height, 0.05..1. Halving it makes the
    search about four times as dear.
    max_people: followed at most, the largest first, 1..100; each costs one run of the landmark network per frame. While
    so many are followed, nobody else is searched for.
    detection_threshold: score from which a find of the search is looked at closely, 0..1.
    presence_threshold: the landmark network's certainty from which a newcomer is a person, 0..1.
    confidence_threshold: mean confidence of a newcomer's joints in the image from which it is a person, 0..1.
    keep_presence, keep_confidence: the same for somebody who was there in the frame before, from 0 to the thresholds.
    merge_similarity: two people whose joints agree to at least this are one, 0..1.
    """

    search_period: int = 60
    min_person_height: float = 1.0 / 6.0
    max_people: int = 8
    detection_threshold: float = 0.5
    presence_threshold: float = 0.5
    confidence_threshold: float = 0.6
    keep_presence: float = 0.15
    keep_confidence: float = 0.45
    merge_similarity: float = 0.5

    def __post_init__(self) -> None:
        ranges = {'search_period': (1, 1000), 'min_person_height': (0.05, 1.0), 'max_people': (1, 100),
                  'detection_threshold': (0.01, 0.99), 'presence_threshold': (0.0, 1.0),
                  'confidence_threshold': (0.0, 1.0), 'keep_presence': (0.0, self.presence_threshold),
                  'keep_confidence': (0.0, self.confidence_threshold), 'merge_similarity': (0.05, 1.0)}
        for field in fields(self):
            low, high = ranges[field.name]
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ValueError(f'{field.name} is {value}, but must lie in {low} .. {high}')


class Detector:
    """Finds people and follows them from frame to frame. Call it with the frames of one camera, in order.

    Two networks share the work. The search network looks over tiles of the image: all of them on the first frame and
    whenever fewer people are followed than in the frame before; otherwise one portion of them per frame, so that each
    place is looked at once in search_period frames and no frame pays for the whole round (somebody new is seen after at
    most that many frames and one). Where somebody was lost, the search looks again in every frame for another
    search_period. A portion is searched in a thread of its own, from when the frame's people are known until they have
    been read in the next frame; what it found is taken up there, so that results do not depend on how fast it was.
    The landmark network reads the joints in a region about each person, all people in one call, and says where the
    region lies in the next frame.

    counters: since the start, by name: frames, tiles (searched), regions (read), found (people), refused (regions with
    nobody in them), merged (duplicates), lost (people no longer seen).
    """

    def __init__(self, search_engine: Engine, landmark_engine: Engine, settings: DetectSettings | None = None) -> None:
        self.settings = settings or DetectSettings()
        self.counters: Counter[str] = Counter(frames=0, tiles=0, regions=0, found=0, refused=0, merged=0, lost=0)
        self._search = TileSearch(search_engine, self.settings.min_person_height, self.settings.search_period,
                                  self.settings.detection_threshold)
        self._landmarks = LandmarkModel(landmark_engine)
        self._thread = ThreadPoolExecutor(1, 'pose3d_ros search')
        self._ahead: Future[Finds] | None = None
        self.reset()

    @classmethod
    def open(cls, model: str = 'full', engines: Wanted | None = None, store: ModelStore | None = None,
             settings: DetectSettings | None = None) -> Detector:
        """Load the networks from the model store. model: 'lite', 'full' or 'heavy'.

        Raises ValueError for another model, ModelMissing, ModelCorrupt or EngineError, each naming the cure.
        """
        if model not in MODELS:
            raise ValueError(f'detector model {model!r} is none of {", ".join(MODELS)}')
        store = store or ModelStore()
        search, landmarks = (open_engine(store.path(name), engines)
                             for name in ('pose_detection', f'pose_landmark_{model}'))
        return cls(search, landmarks, settings)

    @property
    def engines(self) -> dict[str, Engine]:
        """The networks by what they do, to ask which provider they got."""
        return {'search': self._search.engine, 'landmarks': self._landmarks.engine}

    def close(self) -> None:
        """End the search thread and release the networks; the detector cannot be called any more."""
        self._thread.shutdown()
        for engine in self.engines.values():
            engine.close()

    def reset(self) -> None:
        """Forget everybody: the next frame is searched as the first one."""
        if self._ahead is not None:
            wait([self._ahead])  # it uses the search network; whatever it found or failed with belongs to the past
        self._ahead = None
        self._size: tuple[int, ...] = ()
        self._followed = Poses.none()
        self._missed: list[_Missed] = []
        self._since_sweep = 0

    def __call__(self, frame: Frame) -> list[Person2D]:
        """Return the people of a frame, most certain first; joints out of the image are NaN. The tracker gives ids."""
        image, before = frame.image, self._followed
        self.counters['frames'] += 1
        first = image.shape != self._size
        if first:
            self.reset()
            self._size, before = image.shape, self._followed
        read = self._read(image, before.next_regions())  # meanwhile the search may still be at work
        found = self._sweep(image, before) if first else self._found_meanwhile(before)
        poses, accepted = self._accept(Poses.join(read, self._read(image, found)), len(before))
        self._note_missing(before[np.setdiff1d(np.arange(len(before)), accepted)], poses)
        if len(poses) < len(before) and self._since_sweep >= self.settings.search_period:  # not in every frame
            poses, _ = self._accept(Poses.join(poses, self._read(image, self._sweep(image, poses))), len(poses))
        self._followed = poses
        if len(poses) < self.settings.max_people:
            hidden = poses.pixels[:, :JOINTS]
            self._ahead = self._thread.submit(self._search_portion, image, self._next_missed(), hidden)
        return people.to_people(poses, frame.camera)

    def _note_missing(self, dropped: Poses, present: Poses) -> None:
        """Remember where to look for people no longer followed, unless somebody is in their place."""
        gone = dropped.circles()[~close(dropped.circles(), present.circles()).any(axis=1)]
        self.counters['lost'] += len(gone)
        still = [place for place in self._missed if not close(place.circle[None], present.circles()).any()]
        new = [_Missed(circle, self.settings.search_period) for circle in gone]
        self._missed = (still + new)[-self.settings.max_people:]

    def _sweep(self, image: NDArray[np.uint8], known: Poses) -> NDArray[np.float64]:
        """Search the whole image; return the regions (N, 4) of newcomers."""
        self._since_sweep = 0
        return self._newcomers(self._search.everywhere(image, known.pixels[:, :JOINTS]), known)

    def _found_meanwhile(self, known: Poses) -> NDArray[np.float64]:
        """Return the regions (N, 4) of newcomers that were found in the frame before."""
        self._since_sweep += 1
        ahead, self._ahead = self._ahead, None
        return np.zeros((0, 4)) if ahead is None else self._newcomers(ahead.result(), known)

    def _next_missed(self) -> NDArray[np.float64]:
        """Return the tile (1, 3) about one of those who were lost, in turn; no tile (0, 3) when nobody is missed."""
        if not self._missed:
            return np.zeros((0, 3))
        missed = self._missed.pop(0)
        if missed.frames > 1:
            self._missed.append(replace(missed, frames=missed.frames - 1))
        return missed.tile

    def _search_portion(self, image: NDArray[np.uint8], missed: NDArray, hidden: NDArray) -> Finds:
        """Search this frame's portion of the image, and the tile where somebody was lost. Runs in the search thread."""
        return Finds.join([self._search.next_portion(image, hidden), self._search.within(image, missed, hidden)])

    def _newcomers(self, found: Finds, known: Poses) -> NDArray[np.float64]:
        """Return the regions of those finds that are not of known people, a few more than there is room for."""
        self.counters['tiles'] = self._search.tiles_searched
        again = close(found.circles(), known.circles()).any(axis=1)
        fresh = without_repeats(found[np.flatnonzero(~again)])
        candidates = regions.from_circle(fresh.points[:, MID_HIP], fresh.points[:, BODY_CIRCLE],
                                         regions.FOUND_MARGIN)
        height, width = self._size[:2]
        room = max(self.settings.max_people - len(known), 0)
        return candidates[regions.plausible(candidates, width, height)][:room + _SPARE]

    def _read(self, image: NDArray[np.uint8], wanted: NDArray) -> Poses:
        """Run the landmark network on the regions (N, 4), one call for all."""
        self.counters['regions'] += len(wanted)
        return self._landmarks(image, wanted) if len(wanted) else Poses.none()

    def _accept(self, poses: Poses, followed: int) -> tuple[Poses, NDArray[np.intp]]:
        """Return those that are people, each once, and their positions among the given; the first were followed.

        Of more newcomers than there is room for, the largest are taken.
        """
        settings, (height, width) = self.settings, self._size[:2]
        known = np.arange(len(poses)) < followed
        least_presence = np.where(known, settings.keep_presence, settings.presence_threshold)
        least_confidence = np.where(known, settings.keep_confidence, settings.confidence_threshold)
        sure = (people.are_people(poses, least_presence, least_confidence, width, height)
                & regions.plausible(poses.next_regions(), width, height))
        left = np.flatnonzero(sure)
        single = left[people.without_duplicates(poses[left], known[left], settings.merge_similarity, width, height)]
        self.counters['merged'] += len(left) - len(single)
        largest_first = single[np.lexsort((-poses.circles()[single, 2], ~known[single]))]
        single = np.sort(largest_first[:settings.max_people])
        self.counters['refused'] += int((~sure & ~known).sum())
        self.counters['found'] += int((~known[single]).sum())
        return poses[single], single


@dataclass(frozen=True)
class _Missed:
    """Where somebody was lost: circle (3,) x, y, radius px about the body; frames for which to go on looking there."""

    circle: NDArray[np.float64]
    frames: int

    @property
    def tile(self) -> NDArray[np.float64]:
        """The square (1, 3) x0, y0, side px to search, with room for the person to have moved."""
        x, y, radius = self.circle
        reach = _ROOM * radius
        return np.array([[x - reach, y - reach, 2.0 * reach]])
