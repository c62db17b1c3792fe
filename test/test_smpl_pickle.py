"""SMPL's pickles: read exactly, and never run. A pickle that asks for anything else is refused, whatever the trick."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from smpl_files import modules, python_2_pickle, smpl_arrays, write_smpl_pickle
from test_body_model import small_arrays

from pose3d_ros.body_model_file import BodyArrays, BodyModelError, read_body_arrays
from pose3d_ros.cli.main import main
from pose3d_ros.pickle_reader import Made, PickleRefusedError, read_pickle
from pose3d_ros.smpl_pickle import ALLOWED, read_smpl_pickle

ARRAYS = small_arrays(vertices=30, shapes=12)
FIELDS = ('template', 'shapedirs', 'posedirs', 'regressor', 'weights', 'parents', 'faces')


def assert_same(read: BodyArrays, wanted: BodyArrays) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(read, name), getattr(wanted, name), err_msg=name)


@pytest.mark.parametrize('protocol', [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize('sparse', ['csc', 'csr', 'coo'])
def test_a_pickle_like_smpl_s_is_read_exactly(tmp_path: Path, protocol: int, sparse: str) -> None:
    path = tmp_path / 'SMPL_NEUTRAL.pkl'
    path.write_bytes(write_smpl_pickle(ARRAYS, protocol, sparse))
    assert_same(read_smpl_pickle(path), ARRAYS)


def test_a_pickle_of_python_2_is_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / 'basicmodel.pkl'
    path.write_bytes(python_2_pickle(ARRAYS))
    assert_same(read_smpl_pickle(path), ARRAYS)


def test_the_command_converts_pickles_and_npz_files_to_the_same(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'a.pkl').write_bytes(write_smpl_pickle(ARRAYS, 2))
    np.savez(tmp_path / 'b.npz', **smpl_arrays(ARRAYS), bs_style='lbs')
    for name in ('a.pkl', 'b.npz'):
        out = tmp_path / 'out' / f'{name}.npz'
        assert main(['body-model', 'convert', str(tmp_path / name), '--out', str(out)]) == 0
    assert (tmp_path / 'out' / 'a.pkl.npz').read_bytes() == (tmp_path / 'out' / 'b.npz.npz').read_bytes()
    read = read_body_arrays(tmp_path / 'out' / 'a.pkl.npz')
    np.testing.assert_array_equal(read.shapedirs, ARRAYS.shapedirs[..., :10])  # of twelve
    assert main(['body-model', 'convert', str(tmp_path / 'b.npz'), '--out', str(tmp_path / 'b.npz')]) == 1
    assert main(['body-model', 'convert', str(tmp_path / 'b.npz'), '--out', str(tmp_path / 'b.obj')]) == 1
    assert main(['body-model', 'convert', str(tmp_path / 'none.pkl'), '--out', str(tmp_path / 'c.npz')]) == 1
    told = capsys.readouterr().err
    assert 'is the file that is read' in told and 'name it so' in told and 'No such file' in told


class _Runs:
    """A class whose pickle makes Python's own unpickler write a file."""

    def __init__(self, call: tuple) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call


def _attacks(marker: Path) -> dict[str, bytes]:
    """Return pickles that create the file `marker` if they are run, and some that only exhaust."""
    touch = f'open({str(marker)!r}, "w").close()'
    shell = f'touch {marker}'.encode()
    model = smpl_arrays(ARRAYS)
    chain = (b"c__builtin__\ngetattr\n(c__builtin__\ngetattr\n(cos\n__dict__\nS'get'\ntRS'system'\ntR(S'" + shell
             + b"'\ntR.")
    return {
        'os.system': b'cos\nsystem\n(S\'' + shell + b"'\ntR.",
        'posix by name on the stack': (b'\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c' + bytes([len(shell)]) + shell
                                       + b'\x85R.'),
        'eval': pickle.dumps(_Runs((eval, (touch.replace('open', '__import__("builtins").open'),))), 2),
        'exec in a model': pickle.dumps({**model, 'f': _Runs((exec, (touch,)))}, 2),
        'exec beside a model': pickle.dumps({**model, 'extra': _Runs((exec, (touch,)))}, 4),
        'old-style instance': b"(S'" + shell + b"'\nios\nsystem\n.",
        'object of a class': b'(cos\nsystem\nS\'' + shell + b"'\no.",
        'getattr chain': chain,
        'new with keywords': b'\x80\x04cos\nsystem\n)}\x92.',
        'a function of numpy': b"cnumpy.f2py\ncompile\n(S'x'\ntR.",
        'load of numpy': b"cnumpy\nload\n(S'x'\nNI01\ntR.",
        'dotted name': b'\x80\x04\x8c\x05numpy\x8c\x0endarray.fromfi\x93.',
        'a call of a result': b'cnumpy\nndarray\n(tR(tR.',
        'a call of text': b"S'system'\n(S'x'\ntR.",
        'state for a class': b"cchumpy.ch\nCh\n(N}S'__init__'\nI1\nst b.".replace(b'st b', b'stb'),
        'state for a list': b']}b.',
        'state twice': b'cchumpy.ch\nCh\n)\x81}b}b.',
        'another file': b'Pabc\n.', 'another object': b'NQ.', 'registered type': b'\x82\x01.', 'a buffer': b'\x97.',
        'keys that are lists': b'}]Ns.', 'items for a number': b'I1\nI2\na.', 'odd entries': b'}(I1\nu.',
        'store far away': b'Nr\xff\xff\xff\xff' * 3 + b'0.', 'nothing stored': b'h\x07.', 'no mark': b't.',
        'empty stack': b'0.', 'popped through a mark': b'N(0.', 'no end': b'N', 'nothing': b'',
        'an endless text': b'X\xff\xff\xff\x7fabc.', 'negative text': b'T\xff\xff\xff\xff.',
        'eight bytes of length': b'\x8e' + struct.pack('<Q', 2 ** 62) + b'.',
        'a huge number': b'L' + b'9' * 10 ** 6 + b'L\n.', 'a huge long': b'\x8b\xff\xff\xff\x7f.',
        'bad quotes': b'Sabc\n.', 'bad escape': b"S'\\x'\n.", 'bad utf': b'X\x01\0\0\0\xff.', 'bad number': b'Fabc\n.',
        'deep': b'(' * 10 ** 5 + b'l' * 10 ** 5 + b'.', 'deep tuples': b')' + b'\x85' * 10 ** 5 + b'.',
        'deep objects': b'cchumpy.ch\nCh\nq\x00' + b'h\x00' * 50000 + b'N' + b'\x85R' * 50000 + b'.',
        'deep states': b'cchumpy.ch\nCh\nq\x00' + b'h\x00)R}Vx\n' * 20000 + b'N' + b'sb' * 20000 + b'.',
        'itself': b']q\x00h\x00a.', 'a zip': b'PK\x03\x04', 'text': b'hello\n',
    }


@pytest.mark.parametrize('name', list(_attacks(Path('marker'))))
def test_nothing_in_a_pickle_is_run(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / 'ran', tmp_path / 'model.pkl'
    path.write_bytes(_attacks(marker)[name])
    with pytest.raises(BodyModelError, match=r'model\.pkl') as error:
        read_smpl_pickle(path)
    assert not marker.exists()
    assert '.npz' in str(error.value) and '\n' not in str(error.value)


def test_the_attacks_would_work_on_python_s_own_unpickler(tmp_path: Path) -> None:
    """The test above can fail: of what it refuses, some really runs."""
    marker = tmp_path / 'ran'
    for name in ('os.system', 'exec in a model', 'old-style instance'):
        pickle.loads(_attacks(marker)[name])
        assert marker.exists(), name
        marker.unlink()


def test_names_that_are_allowed_are_wishes_and_no_calls() -> None:
    """Even of what may be named nothing is made: the reader keeps names, and no object of NumPy or Python."""
    seen = set()
    for module, name in sorted(ALLOWED):
        value = read_pickle(f'c{module}\n{name}\n(I1\nS\'x\'\ntR.'.encode(), ALLOWED)
        assert type(value) is Made and value.arguments == (1, b'x') and type(value.by.name) is str
        seen.add(name)
    assert not seen & {'getattr', 'eval', 'exec', 'compile', 'open', '__import__', 'load', 'fromfile', 'memmap'}
    with pytest.raises(PickleRefusedError, match='os.system'):
        read_pickle(b'cos\nsystem\n.', ALLOWED)


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda a: a.pop('posedirs'), 'lacks posedirs'),
    (lambda a: a.update(f=[1, 2, 3]), 'f that is no array'),
    (lambda a: a.update(weights=np.array([object()] * 3)), 'asks for'),
    (lambda a: a.update(weights=np.array(['a', 'b'])), "type 'U1'"),
    (lambda a: a.update(weights=a['weights'][:, :20]), r'weights is \(30, 20\)'),
    (lambda a: a.update(v_template=a['v_template'] * np.nan), 'not finite'),
])
def test_models_with_other_contents_are_refused(tmp_path: Path, spoil, message: str) -> None:
    found = smpl_arrays(ARRAYS)
    spoil(found)
    (tmp_path / 'model.pkl').write_bytes(pickle.dumps(found, 2))
    with pytest.raises(BodyModelError, match=message):
        read_smpl_pickle(tmp_path / 'model.pkl')


@pytest.mark.parametrize('state', [
    {'indices': np.array([0, 99]), 'indptr': np.array([0, 1, 2, 2]), 'data': np.ones(2), '_shape': (3, 3)},
    {'indices': np.array([0, -1]), 'indptr': np.array([0, 1, 2, 2]), 'data': np.ones(2), '_shape': (3, 3)},
    {'indices': np.array([0, 1]), 'indptr': np.array([0, 2, 1, 2]), 'data': np.ones(2), '_shape': (3, 3)},
    {'indices': np.array([0, 1]), 'indptr': np.array([0, 1, 2]), 'data': np.ones(2), '_shape': (3, 3)},
    {'indices': np.array([0, 1]), 'indptr': np.array([0, 1, 2, 9]), 'data': np.ones(2), '_shape': (3, 3)},
    {'indices': np.array([0.0, 1]), 'indptr': np.array([0, 1, 2, 2]), 'data': np.ones(2), '_shape': (3, 3)},
    {'indices': np.array([0]), 'indptr': np.array([0, 1]), 'data': np.ones(1), '_shape': (2 ** 40, 1)},
    {'indices': np.array([0]), 'indptr': np.array([0, 1]), 'data': 'none', '_shape': (1, 1)},
    {},
])
def test_sparse_matrices_that_point_outside_are_refused(tmp_path: Path, state: dict) -> None:
    class Sparse:
        pass

    matrix = Sparse()
    matrix.__dict__.update(state)
    with modules(scipy__sparse__csc__csc_matrix=Sparse):
        data = pickle.dumps({**smpl_arrays(ARRAYS), 'J_regressor': matrix}, 2)
    (tmp_path / 'model.pkl').write_bytes(data)
    with pytest.raises(BodyModelError, match='J_regressor'):
        read_smpl_pickle(tmp_path / 'model.pkl')


def test_a_file_cut_or_changed_anywhere_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    data = write_smpl_pickle(small_arrays(vertices=5, shapes=1), 2)
    rng = np.random.default_rng(0)
    path = tmp_path / 'model.pkl'
    for _ in range(300):
        worn = bytearray(data)
        for _ in range(3):
            worn[rng.integers(len(worn) if rng.random() < 0.3 else 300)] = rng.integers(256)
        path.write_bytes(bytes(worn[:rng.integers(1, len(worn))] if rng.random() < 0.2 else worn))
        try:
            assert isinstance(read_smpl_pickle(path), BodyArrays)
        except BodyModelError as error:
            assert 'model.pkl' in str(error)
