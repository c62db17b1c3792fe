"""The two networks of the detection stage, shared by all cameras of a process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.blazepose import BlazePoseReader
from pose3d_ros.detect.finder import PersonFinder, View
from pose3d_ros.detect.finds import Finds
from pose3d_ros.detect.poses import Poses
from pose3d_ros.detect.reader import JointReader
from pose3d_ros.detect.search import BATCH, BlazePoseFinder
from pose3d_ros.runtime.engine import Engine, Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.runtime.sharing import Shared
from pose3d_ros.runtime.store import ModelStore

MODELS = ('lite', 'full', 'heavy')
SEARCH = 'blazepose'


@dataclass(frozen=True)
class Read:
    """A camera's wish to have the joints in regions (N, 4) of its image (H, W, 3) BGR read; N may be 0."""

    image: NDArray[np.uint8]
    regions: NDArray[np.float64]


# What a camera does with a frame: it asks for joints to be read (answered with Poses) and for tiles to be searched
# (answered with Finds), and ends with what is to be searched until its next frame, if anything.
Steps = Generator['Read | View', 'Poses | Finds | None', 'View | None']


@dataclass(frozen=True)
class Ahead:
    """One camera's share of a search that goes on while its next frame is awaited."""

    view: View
    _finds: Future[list[Finds]]
    _position: int

    def result(self) -> Finds:
        """Wait for the search to end. Raises EngineError."""
        return self._finds.result()[self._position]


class Networks:
    """Reads joints and finds people in the images of one or several cameras, all of them in one call.

    Searches run in a thread of their own, one after the other. cameras: whose; the networks are closed when the last
    of them has let go.
    """

    def __init__(self, reader: JointReader, finder: PersonFinder) -> None:
        self.reader = reader
        self.finder = finder
        self.cameras = Shared(self._close)
        self._thread = ThreadPoolExecutor(1, 'pose3d_ros search')

    @classmethod
    def open(cls, model: str, search: str, engines: Wanted | None, store: ModelStore | None, most: int) -> Networks:
        """Load and warm both; see Detector.open. most: regions that are usually read at once, at most."""
        store = store or ModelStore()
        with ExitStack() as opened:
            reader = _open_reader(model, engines, store, most)
            opened.callback(reader.engine.close)
            finder = _open_finder(search, engines, store)
            opened.callback(finder.engine.close)
            for engine in (reader.engine, finder.engine):
                engine.warm_up()
            opened.pop_all()
        return cls(reader, finder)

    @property
    def engines(self) -> dict[str, Engine]:
        """The networks by what they do, to ask what computes them."""
        return {'search': self.finder.engine, 'landmarks': self.reader.engine}

    def serve(self, cameras: Sequence[Steps], threshold: float) -> list[View | None]:
        """Take cameras through their frames side by side; return what each wants to have searched meanwhile.

        In each step the wishes of all of them go through the network together. threshold: least score of a find.
        """
        ends: list[View | None] = [None] * len(cameras)
        answers: dict[int, Poses | Finds | None] = dict.fromkeys(range(len(cameras)))
        while answers:
            reads: dict[int, Read] = {}
            searches: dict[int, View] = {}
            for camera, answer in answers.items():
                try:
                    wish = cameras[camera].send(answer)
                except StopIteration as end:
                    ends[camera] = end.value
                else:
                    if isinstance(wish, Read):
                        reads[camera] = wish
                    else:
                        searches[camera] = wish
            under_way = self.search_ahead(list(searches.values()), threshold)
            answers = dict(zip(reads, self._read(list(reads.values()))))
            answers |= zip(searches, (Finds.none() if ahead is None else ahead.result() for ahead in under_way))
        return ends

    def search_ahead(self, views: Sequence[View | None], threshold: float) -> list[Ahead | None]:
        """Begin to search the views in the search thread, where there are any with tiles."""
        wanted = [view for view in views if view is not None and len(view.tiles)]
        if not wanted:
            return [None] * len(views)
        finds = self._thread.submit(self.finder, wanted, threshold)
        shares = iter([Ahead(view, finds, position) for position, view in enumerate(wanted)])
        return [next(shares) if view is not None and len(view.tiles) else None for view in views]

    def _read(self, wishes: Sequence[Read]) -> list[Poses]:
        read = iter(self.reader([(wish.image, wish.regions) for wish in wishes if len(wish.regions)])
                    if any(len(wish.regions) for wish in wishes) else [])
        return [next(read) if len(wish.regions) else Poses.none(len(self.reader.skeleton)) for wish in wishes]

    def _close(self) -> None:
        self._thread.shutdown()
        for engine in self.engines.values():
            engine.close()


def _described(model: str) -> bool:
    return model.endswith('.yaml')


def _open_reader(model: str, engines: Wanted | None, store: ModelStore, most: int) -> JointReader:
    if _described(model):
        from pose3d_ros.detect.own import open_reader
        return open_reader(model, engines, most)
    if model not in MODELS:
        raise ValueError(f'detector model {model!r} is none of {", ".join(MODELS)}, and no .yaml file of a description')
    return BlazePoseReader(open_engine(store.path(f'pose_landmark_{model}'), engines, most=most))


def _open_finder(search: str, engines: Wanted | None, store: ModelStore) -> PersonFinder:
    if _described(search):
        from pose3d_ros.detect.own import open_finder
        return open_finder(search, engines)
    if search != SEARCH:
        raise ValueError(f'search {search!r} is neither {SEARCH!r} nor the .yaml file of a description')
    return BlazePoseFinder(open_engine(store.path('pose_detection'), engines, most=BATCH))
