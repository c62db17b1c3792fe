"""The detection stage: the people of one frame, with their joints in the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import people, regions
from pose3d_ros.detect.finder import View
from pose3d_ros.detect.finds import BODY_CIRCLE, MID_HIP, Finds, close, without_repeats
from pose3d_ros.detect.networks import SEARCH, Ahead, Networks, Read, Steps
from pose3d_ros.detect.poses import Poses
from pose3d_ros.detect.rounds import Rounds
from pose3d_ros.detect.settings import DetectSettings
from pose3d_ros.records import Frame, Person2D
from pose3d_ros.runtime.engine import Engine, Wanted
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.skeleton import Skeleton

_SPARE = 3  # candidates looked at beyond the room that is left, as some are nobody
_ROOM = 1.5  # how far about a lost person the search looks again, in radii of the circle about the body


def regions_at_once(settings: DetectSettings, cameras: int = 1) -> int:
    """Return how many regions the joint reader is usually given at once, at most: what its engine is built for."""
    return cameras * (settings.max_people + _SPARE)


class Detector:
    """Finds people and follows them from frame to frame. Call it with the frames of one camera, in order.

    Two networks share the work. The search network looks over tiles of the image: all of them on the first frame and
    whenever fewer people are followed than in the frame before; otherwise one portion of them per frame, so that each
    place is looked at once in search_period frames and no frame pays for the whole round (somebody new is seen after at
    most that many frames and one). Where somebody was lost, the search looks again in every frame for another
    search_period. A portion is searched in a thread of its own, from when the frame's people are known until they have
    been read in the next frame; what it found is taken up there, so that results do not depend on how fast it was.
    The landmark network reads the joints in a region about each person, all people in one call, and says where the
    region lies in the next frame. Detectors of several cameras that share their networks (open_group) do all this
    together(), each network called once for all cameras.

    counters: since the start, by name: frames, tiles (searched), regions (read), found (people), refused (regions with
    nobody in them), merged (duplicates), lost (people no longer seen).
    """

    def __init__(self, networks: Networks, settings: DetectSettings | None = None) -> None:
        self.networks = networks
        self.settings = settings or DetectSettings()
        self.counters: Counter[str] = Counter(frames=0, tiles=0, regions=0, found=0, refused=0, merged=0, lost=0)
        networks.cameras.use(self)
        self.reset()

    @classmethod
    def open(cls, model: str = 'full', engines: Wanted | None = None, store: ModelStore | None = None,
             settings: DetectSettings | None = None, search: str = SEARCH) -> Detector:
        """Load the networks and run them once, so that the first frame takes no longer than others.

        model: what reads the joints, 'lite', 'full' or 'heavy' of the model store, or the path of a .yaml file that
        describes another network (docs/own_models.md). search: what finds people, 'blazepose' or such a path. Raises
        ValueError for another name or a description that does not fit, ModelMissing, ModelCorrupt or EngineError, each
        naming the cure.
        """
        return cls.open_group(1, model, engines, store, settings, search)[0]

    @classmethod
    def open_group(cls, count: int, model: str = 'full', engines: Wanted | None = None,
                   store: ModelStore | None = None, settings: DetectSettings | None = None,
                   search: str = SEARCH) -> list[Detector]:
        """Return detectors for so many cameras that share their networks, to be called together(); see open."""
        if count < 1:
            raise ValueError(f'a group of {count} cameras: give 1 or more')
        settings = settings or DetectSettings()
        networks = Networks.open(model, search, engines, store, most=regions_at_once(settings, count))
        return [cls(networks, settings) for _ in range(count)]

    @property
    def engines(self) -> dict[str, Engine]:
        """The networks by what they do, to ask which provider they got."""
        return self.networks.engines

    @property
    def skeleton(self) -> Skeleton:
        """The joints in which people come."""
        return self.networks.reader.skeleton

    def close(self) -> None:
        """Let go of the networks, which end with the last detector that uses them; it cannot be called any more."""
        self.networks.cameras.let_go(self)

    def reset(self) -> None:
        """Forget everybody: the next frame is searched as the first one."""
        self._ahead: Ahead | None = None  # what it finds, or fails with, belongs to the past
        self._size: tuple[int, ...] = ()
        self._rounds = Rounds(np.zeros((0, 3)), self.settings.search_period)
        self._followed = Poses.none(len(self.skeleton))
        self._missed: list[_Missed] = []
        self._since_sweep = 0

    def __call__(self, frame: Frame) -> list[Person2D]:
        """Return the people of a frame, most certain first; joints out of the image are NaN. The tracker gives ids."""
        return together([self], [frame])[0]

    def _look(self, frame: Frame) -> Steps:
        """Find and follow the people of a frame; return what to search until the next one."""
        image, before = frame.image, self._followed
        self.counters['frames'] += 1
        first = image.shape != self._size
        if first:
            self._begin(image)
            before = self._followed
        read = yield from self._read(image, before.next_regions())  # meanwhile the search may still be at work
        found = (yield from self._sweep(image, before)) if first else self._found_meanwhile(before)
        newcomers = yield from self._read(image, found)
        poses, accepted = self._accept(Poses.join([read, newcomers]), len(before))
        self._note_missing(before[np.setdiff1d(np.arange(len(before)), accepted)], poses)
        if len(poses) < len(before) and self._since_sweep >= self.settings.search_period:  # not in every frame
            newcomers = yield from self._read(image, (yield from self._sweep(image, poses)))
            poses, _ = self._accept(Poses.join([poses, newcomers]), len(poses))
        self._followed = poses
        if len(poses) >= self.settings.max_people:
            return None
        return self._view(image, np.concatenate([self._rounds.next_portion(), self._next_missed()]), poses)

    def _begin(self, image: NDArray[np.uint8]) -> None:
        """Start anew, with images of this size."""
        self.reset()
        self._size = image.shape
        height, width = self._size[:2]
        tiles = self.networks.finder.plan(width, height, self.settings.min_person_height)
        self._rounds = Rounds(tiles, self.settings.search_period)

    def _view(self, image: NDArray[np.uint8], tiles: NDArray[np.float64], known: Poses) -> View:
        return View(image, tiles, known.pixels, self.skeleton)

    def _note_missing(self, dropped: Poses, present: Poses) -> None:
        """Remember where to look for people no longer followed, unless somebody is in their place."""
        gone = dropped.circles()[~close(dropped.circles(), present.circles()).any(axis=1)]
        self.counters['lost'] += len(gone)
        still = [place for place in self._missed if not close(place.circle[None], present.circles()).any()]
        new = [_Missed(circle, self.settings.search_period) for circle in gone]
        self._missed = (still + new)[-self.settings.max_people:]

    def _sweep(self, image: NDArray[np.uint8],
               known: Poses) -> Generator[View, Poses | Finds | None, NDArray[np.float64]]:
        """Search the whole image; return the regions (N, 4) of newcomers."""
        self._since_sweep = 0
        view = self._view(image, self._rounds.everywhere(), known)
        found = yield view
        assert isinstance(found, Finds)
        return self._newcomers(found, known, len(view.tiles))

    def _found_meanwhile(self, known: Poses) -> NDArray[np.float64]:
        """Return the regions (N, 4) of newcomers that were found in the frame before."""
        self._since_sweep += 1
        ahead, self._ahead = self._ahead, None
        return np.zeros((0, 4)) if ahead is None else self._newcomers(ahead.result(), known, len(ahead.view.tiles))

    def _next_missed(self) -> NDArray[np.float64]:
        """Return the tile (1, 3) about one of those who were lost, in turn; no tile (0, 3) when nobody is missed."""
        if not self._missed:
            return np.zeros((0, 3))
        missed = self._missed.pop(0)
        if missed.frames > 1:
            self._missed.append(replace(missed, frames=missed.frames - 1))
        return missed.tile

    def _newcomers(self, found: Finds, known: Poses, tiles: int) -> NDArray[np.float64]:
        """Return the regions of what was found in some tiles, without known people: a few more than there is room for.
        """
        self.counters['tiles'] += tiles
        again = close(found.circles(), known.circles()).any(axis=1)
        fresh = without_repeats(found[np.flatnonzero(~again)])
        candidates = regions.from_circle(fresh.points[:, MID_HIP], fresh.points[:, BODY_CIRCLE],
                                         regions.FOUND_MARGIN)
        height, width = self._size[:2]
        room = max(self.settings.max_people - len(known), 0)
        return candidates[regions.plausible(candidates, width, height)][:room + _SPARE]

    def _read(self, image: NDArray[np.uint8],
              wanted: NDArray[np.float64]) -> Generator[Read, Poses | Finds | None, Poses]:
        """Have the joints in the regions (N, 4) read."""
        self.counters['regions'] += len(wanted)
        read = yield Read(image, wanted)
        assert isinstance(read, Poses)
        return read

    def _accept(self, poses: Poses, followed: int) -> tuple[Poses, NDArray[np.intp]]:
        """Return those that are people, each once, and their positions among the given; the first were followed.

        Of more newcomers than there is room for, the largest are taken.
        """
        settings, skeleton, (height, width) = self.settings, self.skeleton, self._size[:2]
        known = np.arange(len(poses)) < followed
        least_presence = np.where(known, settings.keep_presence, settings.presence_threshold)
        least_confidence = np.where(known, settings.keep_confidence, settings.confidence_threshold)
        sure = (people.are_people(poses, least_presence, least_confidence, width, height)
                & regions.plausible(poses.next_regions(), width, height))
        left = np.flatnonzero(sure)
        single = left[people.without_duplicates(poses[left], skeleton, known[left], settings.merge_similarity, width,
                                                height)]
        self.counters['merged'] += len(left) - len(single)
        largest_first = single[np.lexsort((-poses.circles()[single, 2], ~known[single]))]
        single = np.sort(largest_first[:settings.max_people])
        self.counters['refused'] += int((~sure & ~known).sum())
        self.counters['found'] += int((~known[single]).sum())
        return poses[single], single


def together(detectors: Sequence[Detector], frames: Sequence[Frame]) -> list[list[Person2D]]:
    """Return the people of one frame of each of several cameras; each network is called once for all of them.

    detectors: of one group, each once, but not always all: a camera without a new image is left out. The results are
    those of calling each detector with its frame. Raises ValueError for other detectors, before anything is computed.
    """
    if len(detectors) != len(frames) or len(set(detectors)) != len(detectors):
        raise ValueError(f'{len(frames)} frames for {len(set(detectors))} detectors: expected one for each')
    if not detectors:
        return []
    networks, settings = detectors[0].networks, detectors[0].settings
    if any(other.networks is not networks or other.settings != settings for other in detectors):
        raise ValueError('these detectors do not share networks and settings: open them with open_group')
    threshold = settings.detection_threshold
    views = networks.serve([detector._look(frame) for detector, frame in zip(detectors, frames)], threshold)
    for detector, ahead in zip(detectors, networks.search_ahead(views, threshold)):
        detector._ahead = ahead
    return [people.to_people(detector._followed, detector.skeleton, frame.camera)
            for detector, frame in zip(detectors, frames)]


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
