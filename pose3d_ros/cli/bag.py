"""Recordings of ROS 2 (rosbag2: MCAP or SQLite), read without ROS.

By the library rosbags: one reader for both kinds that decodes any message from the definition stored beside it, whether
or not ROS or the packages of the messages are there.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.places import message_files

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_SUFFIXES = ('.mcap', '.db3')
_LISTED = 20  # topics that an error names


def is_bag(path: Path) -> bool:
    """Tell whether a path looks like a bag (a folder, or a file of its kind) rather than like a video."""
    return path.is_dir() or path.suffix in (*_SUFFIXES, '.bag')


class Bag:
    """An open bag. topics: the type of each, by name. Use as a context, or close it.

    Raises UserError wherever something cannot be read, with the cure.
    """

    def __init__(self, path: Path) -> None:
        from rosbags.highlevel import AnyReader

        self.path = path
        self._reader = AnyReader([_storage(path)], default_typestore=_known_types())
        with _Readable(path):
            self._reader.open()
        self.topics = {name: info.msgtype or '' for name, info in sorted(self._reader.topics.items())}

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def of_type(self, kinds: Collection[str]) -> list[str]:
        """Return the topics of these types, as `sensor_msgs/msg/Image`, in the order of their names."""
        return [name for name, kind in self.topics.items() if kind in kinds]

    def check(self, topics: Sequence[str], kinds: Collection[str]) -> None:
        """Raise UserError for topics that are not there, or are of none of these types."""
        for topic in topics:
            if topic not in self.topics:
                raise UserError(f'{self.path}: no topic {topic}; it has: {self._listed()}')
            if self.topics[topic] not in kinds:
                raise UserError(f'{self.path}: {topic} is {self.topics[topic]}, not {" or ".join(kinds)}; it has: '
                                f'{self._listed()}')

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Yield topic and message, in the order of recording. The messages have the fields of ROS messages."""
        connections = [each for each in self._reader.connections if each.topic in topics]
        if not connections:
            return
        with _Readable(self.path):
            for connection, _, data in self._reader.messages(connections):
                yield connection.topic, self._reader.deserialize(data, connection.msgtype)

    def _listed(self) -> str:
        shown = [f'{name} ({kind})' for name, kind in list(self.topics.items())[:_LISTED]]
        more = len(self.topics) - len(shown)
        return (', '.join(shown) or 'nothing') + (f' and {more} more' if more > 0 else '')


class _Readable:
    """Turns what the library raises for a broken file into UserError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(error, _broken()):
            reason = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
            raise UserError(f'{self._path}: cannot be read ({reason}): it is damaged, or its recording was cut off; '
                            'repair it (mcap recover, ros2 bag reindex), or record again') from None


def _broken() -> tuple[type[Exception], ...]:
    """Return what the library and those below it raise for files that are not as they should be."""
    import apsw
    from rosbags.highlevel import AnyReaderError
    from rosbags.rosbag2 import ReaderError
    from rosbags.serde import SerdeError
    from rosbags.typesys import TypesysError
    return (AnyReaderError, ReaderError, SerdeError, TypesysError, apsw.Error, struct.error, OSError, EOFError,
            AssertionError, ValueError, LookupError, RuntimeError, MemoryError)  # the last: of a length that is none


def _storage(path: Path) -> Path:
    """Return the folder or file to open. Raises UserError for what is no bag."""
    if not path.exists():
        raise UserError(f'{path}: is not there; give the folder of a bag, or its .mcap or .db3 file')
    if path.is_file():
        if path.suffix == '.bag':
            raise UserError(f'{path}: is a bag of ROS 1; convert it: rosbags-convert --src {path.name} --dst '
                            f'{path.stem}')
        if path.suffix not in _SUFFIXES:
            raise UserError(f'{path}: is no bag; give the folder of a bag, or its .mcap or .db3 file')
        return path
    if (path / 'metadata.yaml').is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if len(files) == 1:  # metadata.yaml is written at the end of a recording: this one was cut off
        return files[0]
    raise UserError(f'{path}: is no bag: there is no metadata.yaml in it' + (
        '; its recording was cut off, repair it: ros2 bag reindex' if files else ' nor any .mcap or .db3 file'))


def _known_types() -> Typestore:
    """Return the definitions of common messages and of our own, for bags that hold none (SQLite, before Iron)."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for path in message_files():
        types.update(get_types_from_msg(path.read_text(), f'pose3d_ros/msg/{path.stem}'))
    store.register(types)
    return store
