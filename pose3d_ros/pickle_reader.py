"""What a pickle says, read without doing it: nothing is imported, called or built but numbers, text and containers.

Python's own unpickler runs whatever functions a file names. Here the operations of protocols 0 to 5 (documented in
CPython's Lib/pickletools.py) work on a stack of plain values; where a file wants a function called, the wish alone is
kept (Made), and the reader of the result decides what it stands for. Names that are not expected, and everything that
reaches outside of the file, are refused.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

_LONGEST_NUMBER = 64  # bytes or digits
_NOTHING = object()


class PickleRefusedError(ValueError):
    """The file is damaged, or asks for something that data does not need."""


@dataclass(frozen=True)
class Global:
    """The name of a class or function. Only the name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f'{self.module}.{self.name}'


@dataclass(eq=False)
class Made:
    """What a file wants made: by calling `by` with arguments, then given a state."""

    by: Global
    arguments: tuple
    state: Any = None


def read_pickle(data: bytes, allowed: Container[tuple[str, str]]) -> Any:
    """Return the value of the first pickle in data. Raises PickleRefusedError.

    allowed: (module, name) of what it may name.
    Text of Python 2 (which knew no difference) stays bytes, but for keys of dictionaries.
    """
    return _Reader(data, allowed).run()


class _Reader:
    def __init__(self, data: bytes, allowed: Container[tuple[str, str]]) -> None:
        self.data, self.allowed, self.at = data, allowed, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self.take(1)) != b'.':
            if (operation := _OPERATIONS.get(code)) is None:
                raise PickleRefusedError(f'the operation {code!r} at byte {self.at - 1}')
            operation(self)
        return self.pop()

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise PickleRefusedError('more bytes than it has: it is damaged')
        self.at += count
        return self.data[self.at - count:self.at]

    def line(self) -> bytes:
        end = self.data.find(b'\n', self.at)
        if end < 0:
            raise PickleRefusedError('more lines than it has: it is damaged')
        return self.take(end + 1 - self.at)[:-1]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleRefusedError('a value that is not there: it is damaged')
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleRefusedError('a mark that is not there: it is damaged')
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        value = self.memo.get(index, _NOTHING)
        if value is _NOTHING:
            raise PickleRefusedError('a value that it has not stored: it is damaged')
        self.push(value)

    def name(self, module: Any, name: Any) -> None:
        module, name = text(module), text(name)
        if (module, name) not in self.allowed:
            raise PickleRefusedError(f'{module[:60]}.{name[:60]}')
        self.push(Global(module, name))

    def make(self, by: Any, arguments: Any) -> None:
        if not isinstance(by, Global) or not isinstance(arguments, tuple):
            raise PickleRefusedError('a call of something that is no function')
        self.push(Made(by, arguments))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Made) or target.state is not None:
            raise PickleRefusedError('a state for something that has none')
        target.state = state

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise PickleRefusedError('items for something that is no list')
        target.extend(values)

    def update(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Made):  # an ordered dictionary, say: nothing of it is needed
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise PickleRefusedError('entries for something that is no dictionary')
        for key, value in zip(values[::2], values[1::2]):
            target[_key(key)] = value

    def pop_two(self) -> list[Any]:
        last = self.pop()
        return [self.pop(), last]

    def dictionary(self) -> None:
        values = self.pop_mark()
        self.push({})
        self.update(values)

    def instance(self) -> None:
        values = self.pop_mark()
        if not values:
            raise PickleRefusedError('an object without a class')
        self.make(values[0], tuple(values[1:]))

    def named_instance(self) -> None:
        self.name(self.line(), self.line())
        by = self.pop()
        self.make(by, tuple(self.pop_mark()))

    def with_keywords(self) -> None:
        keywords = self.pop()
        arguments, by = self.pop(), self.pop()
        if keywords:
            raise PickleRefusedError('a call with named arguments')
        self.make(by, arguments)

    def call(self) -> None:
        arguments = self.pop()
        self.make(self.pop(), arguments)


def text(value: Any) -> str:
    """Return text as text, also that of Python 2. Raises PickleRefusedError for anything else."""
    if isinstance(value, bytes):
        return value.decode('latin-1')
    if not isinstance(value, str):
        raise PickleRefusedError('a name that is no text')
    return value


def _key(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode('latin-1')
    if value is None or isinstance(value, str | int | float):
        return value
    raise PickleRefusedError('a dictionary with keys that are not text or numbers')


def _int_line(line: bytes) -> int | bool:
    if line in (b'00', b'01'):
        return line == b'01'
    if len(line) > _LONGEST_NUMBER:
        raise PickleRefusedError('a number too long')
    try:
        return int(line.rstrip(b'L'))
    except ValueError:
        raise PickleRefusedError('a number that is none') from None


def _float_line(line: bytes) -> float:
    try:
        return float(line[:_LONGEST_NUMBER])
    except ValueError:
        raise PickleRefusedError('a number that is none') from None


def _long(data: bytes) -> int:
    if len(data) > _LONGEST_NUMBER:
        raise PickleRefusedError('a number too long')
    return int.from_bytes(data, 'little', signed=True)


def _quoted(line: bytes) -> bytes:
    """Return the bytes of a text as Python 2 wrote it: in quotes, with escapes."""
    if len(line) < 2 or line[:1] not in (b'"', b"'") or line[-1:] != line[:1]:
        raise PickleRefusedError('a text without quotes')
    try:
        return codecs.escape_decode(line[1:-1])[0]  # type: ignore[attr-defined]
    except ValueError:
        raise PickleRefusedError('a text with an escape that there is not') from None


def _decoded(data: bytes, encoding: str = 'utf-8') -> str:
    try:
        return data.decode(encoding, 'surrogatepass' if encoding == 'utf-8' else 'strict')
    except UnicodeDecodeError:
        raise PickleRefusedError('a text in another encoding') from None


def _sized(form: str) -> Callable[[_Reader], bytes]:
    return lambda r: r.take(r.number(form))


def _pushes(value: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda r: r.push(value(r))


_OPERATIONS: dict[bytes, Callable[[_Reader], Any]] = {
    # numbers
    b'N': _pushes(lambda r: None), b'\x88': _pushes(lambda r: True), b'\x89': _pushes(lambda r: False),
    b'I': _pushes(lambda r: _int_line(r.line())), b'L': _pushes(lambda r: _int_line(r.line())),
    b'J': _pushes(lambda r: r.number('<i')), b'K': _pushes(lambda r: r.number('<B')),
    b'M': _pushes(lambda r: r.number('<H')), b'\x8a': _pushes(lambda r: _long(r.take(r.number('<B')))),
    b'\x8b': _pushes(lambda r: _long(r.take(r.number('<i')))), b'F': _pushes(lambda r: _float_line(r.line())),
    b'G': _pushes(lambda r: struct.unpack('>d', r.take(8))[0]),
    # text and bytes
    b'S': _pushes(lambda r: _quoted(r.line())), b'T': _pushes(_sized('<i')), b'U': _pushes(_sized('<B')),
    b'B': _pushes(_sized('<I')), b'C': _pushes(_sized('<B')), b'\x8e': _pushes(_sized('<Q')),
    b'\x96': _pushes(_sized('<Q')), b'V': _pushes(lambda r: _decoded(r.line(), 'raw-unicode-escape')),
    b'X': _pushes(lambda r: _decoded(r.take(r.number('<I')))),
    b'\x8c': _pushes(lambda r: _decoded(r.take(r.number('<B')))),
    b'\x8d': _pushes(lambda r: _decoded(r.take(r.number('<Q')))),
    # containers
    b']': _pushes(lambda r: []), b')': _pushes(lambda r: ()), b'}': _pushes(lambda r: {}),
    b'l': _pushes(_Reader.pop_mark), b't': _pushes(lambda r: tuple(r.pop_mark())),
    b'\x85': _pushes(lambda r: (r.pop(),)), b'\x86': _pushes(lambda r: tuple(r.pop_two())),
    b'\x87': _pushes(lambda r: (lambda last: (*r.pop_two(), last))(r.pop())),
    b'd': _Reader.dictionary, b'a': lambda r: (lambda value: r.extend([value]))(r.pop()),
    b'e': lambda r: r.extend(r.pop_mark()), b's': lambda r: r.update(r.pop_two()),
    b'u': lambda r: r.update(r.pop_mark()), b'\x8f': _pushes(lambda r: []),  # a set: nothing here needs one
    b'\x90': lambda r: r.extend(r.pop_mark()), b'\x91': _pushes(lambda r: tuple(r.pop_mark())),
    # the stack and the store
    b'(': lambda r: r.marks.append(len(r.stack)), b'0': _Reader.pop, b'1': _Reader.pop_mark,
    b'2': lambda r: r.push(r.top()), b'p': lambda r: r.put(_int_line(r.line())),
    b'q': lambda r: r.put(r.number('<B')), b'r': lambda r: r.put(r.number('<I')),
    b'\x94': lambda r: r.put(len(r.memo)), b'g': lambda r: r.get(_int_line(r.line())),
    b'h': lambda r: r.get(r.number('<B')), b'j': lambda r: r.get(r.number('<I')),
    b'\x80': lambda r: r.take(1), b'\x95': lambda r: r.take(8),
    # names and wishes
    b'c': lambda r: r.name(r.line(), r.line()), b'\x93': lambda r: r.name(*r.pop_two()), b'R': _Reader.call,
    b'\x81': _Reader.call, b'\x92': _Reader.with_keywords, b'o': _Reader.instance, b'i': _Reader.named_instance,
    b'b': _Reader.build,
}
