"""MPII Human Pose in its published layout: small sets of it, written here and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import ImageSetError, square_crop, stored
from pose3d_ros.train.mpii import JOINTS, MAT, annotated, load_mpii

SIDE = 200


def structs(entries: list[dict[str, Any]]) -> np.ndarray:
    """Return a struct array (1, N) as MATLAB has it: every entry has all fields, those not given are empty."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    array = np.empty((1, len(entries)), dtype=[(name, object) for name in names])
    for place, entry in zip(array[0], entries):
        for name in names:
            place[name] = entry.get(name, np.empty((0, 0)))
    return array


def person(joints: dict[int, tuple[float, float, Any]], middle: tuple[float, float] = (100.0, 90.0),
           scale: float = 0.6) -> dict[str, Any]:
    """Return an annorect; joints: by id x, y (counted from 1) and is_visible."""
    points = [{'x': x, 'y': y, 'id': joint, 'is_visible': seen} for joint, (x, y, seen) in joints.items()]
    return {'x1': 1, 'scale': scale, 'objpos': structs([{'x': middle[0], 'y': middle[1]}]),
            'annopoints': structs([{'point': structs(points)}])}


ALL = {joint: (60.0 + 5 * joint, 40.0 + 7 * joint, joint % 2) for joint in range(16)}


def write(folder: Path, images: list[tuple[str, list[dict[str, Any]], int, int]], write_images: bool = True) -> Path:
    """Write a set; images: name, people, whether of the training part, number of the video."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    annolist = [{'image': structs([{'name': name}]), 'annorect': structs(people) if people else np.empty((0, 0)),
                 'vididx': video} for name, people, _, video in images]
    savemat(folder / MAT, {'RELEASE': {'annolist': structs(annolist),
                                       'img_train': np.array([[train for _, _, train, _ in images]])}})
    for name, people, _, _ in images if write_images else []:
        image = np.full((SIDE, SIDE, 3), 30, np.uint8)
        for entry in people:
            annotated_points = entry.get('annopoints')
            for point in annotated_points[0, 0]['point'][0] if np.size(annotated_points) and 'objpos' in entry else []:
                cv2.circle(image, (round(point['x']) - 1, round(point['y']) - 1), 3, (0, 200, 255), -1)   # BGR
        cv2.imwrite(str(folder / 'images' / name), image)
    return folder


def test_joints_lie_where_they_were_marked(tmp_path: Path) -> None:
    folder = write(tmp_path, [('a.png', [person(ALL)], 1, 3), ('of_testing.png', [{'x1': 1}], 0, 4)])
    images, skipped = load_mpii(folder, 96, tmp_path / 'crops.npy')
    assert len(images) == 1 and skipped.count == 0 and images.joints3d is None and images.domain == 'mpii'
    for joint, name in enumerate(JOINTS):
        place = images.joints2d[0, HUMAN17.index(name)]
        x, y = np.round(place).astype(int)
        assert images.images[0, y, x, 0] > 200 > 100 > images.images[0, y, x, 2], name      # the dot, in RGB
        assert images.visible[0, HUMAN17.index(name)] == joint % 2
    assert np.isnan(images.joints2d[0, HUMAN17.index('spine')]).all()
    # 1.25 times 200 px times the scale of the image is the crop
    between = np.linalg.norm(images.joints2d[0, HUMAN17.index('right_ankle')]
                             - images.joints2d[0, HUMAN17.index('left_wrist')])
    assert between == pytest.approx(np.hypot(15 * 5, 15 * 7) * 96 / (1.25 * 200 * 0.6), rel=1e-5)


def test_people_without_a_place_a_scale_or_joints_are_no_examples(tmp_path: Path) -> None:
    nobody = [{'x1': 1.0}, {**person(ALL), 'scale': np.empty((0, 0))}, {**person(ALL), 'objpos': np.empty((0, 0))},
              {**person(ALL), 'annopoints': np.empty((0, 0))}]
    folder = write(tmp_path, [('a.png', [*nobody, person({6: (50.0, 60.0, np.empty((0, 0))), 9: (50.0, 20.0, '1')})],
                               1, 0), ('empty.png', [], 1, 1)])
    found = list(annotated(folder))
    assert len(found) == 1
    assert found[0].joints[HUMAN17.index('pelvis')].tolist() == [49.0, 59.0]           # MATLAB counts from 1
    assert found[0].visible[HUMAN17.indices(['pelvis', 'head'])].all()
    assert np.isfinite(found[0].joints).all(axis=1).sum() == 2


def test_videos_are_either_for_training_or_for_validation(tmp_path: Path) -> None:
    folder = write(tmp_path, [(f'{video}.png', [person(ALL)], 1, video) for video in range(20)])
    for validation, videos in ((False, set(range(20)) - {9, 19}), (True, {9, 19})):
        images, _ = load_mpii(folder, 32, tmp_path / 'crops.npy', validation)
        assert set(images.subject) == videos


def test_missing_and_damaged_images_are_counted(tmp_path: Path) -> None:
    folder = write(tmp_path, [(f'{name}.png', [person(ALL), person(ALL)], 1, 0) for name in 'abc'])
    (folder / 'images' / 'a.png').unlink()
    (folder / 'images' / 'b.png').write_bytes(b'no image')
    images, skipped = load_mpii(folder, 32, tmp_path / 'crops.npy')
    assert len(images) == 2 and skipped.count == 4 and 'a.png' in skipped.example
    told: list[str] = []
    skipped.report('of mpii', told.append)
    assert told == [f'4 of mpii skipped; the first: {folder / "images" / "a.png"} is missing or damaged']


def test_what_is_no_mpii_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageSetError, match='images does not exist'):
        load_mpii(tmp_path, 32, tmp_path / 'crops.npy')
    (tmp_path / 'images').mkdir()
    with pytest.raises(ImageSetError, match='does not exist; it is in'):
        load_mpii(tmp_path, 32, tmp_path / 'crops.npy')
    for content in (b'', b'nothing that MATLAB wrote ' * 20):
        (tmp_path / MAT).write_bytes(content)
        with pytest.raises(ImageSetError, match='not the annotations of MPII'):
            load_mpii(tmp_path, 32, tmp_path / 'crops.npy')
    savemat(tmp_path / MAT, {'something': 1})
    with pytest.raises(ImageSetError, match='not the annotations of MPII'):
        load_mpii(tmp_path, 32, tmp_path / 'crops.npy')
    write(tmp_path, [('gone.png', [person(ALL)], 1, 0)], write_images=False)
    with pytest.raises(ImageSetError, match='no usable person.*gone.png is missing'):
        load_mpii(tmp_path, 32, tmp_path / 'crops.npy')


def test_crops_are_made_once_and_stay_in_their_file(tmp_path: Path) -> None:
    folder = write(tmp_path, [('a.png', [person(ALL)], 1, 3)])
    made: list[Path] = []

    def make(path: Path):  # type: ignore[no-untyped-def]
        made.append(path)
        return load_mpii(folder, 32, path)

    first, _ = stored(tmp_path / 'kept', make)
    second, skipped = stored(tmp_path / 'kept', make)
    assert len(made) == 1 and isinstance(second.images, np.memmap) and skipped.count == 0
    assert (first.images == second.images).all() and second.joints3d is None and second.domain == 'mpii'
    np.testing.assert_array_equal(first.joints2d, second.joints2d)
    (tmp_path / 'kept' / 'labels.npz').write_bytes(b'broken')
    with pytest.raises(ImageSetError, match='delete it'):
        stored(tmp_path / 'kept', make)


@pytest.mark.parametrize('side', [20.0, 64.0, 150.0])
def test_a_crop_keeps_what_lies_where(side: float) -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[100:, :] = 255
    image[:, 90:] //= 2
    crop, crop_T_image = square_crop(image, (90.0, 100.0), side, 32)
    for place in ((85.0, 95.0), (85.0, 105.0), (95.0, 105.0)):
        x, y = np.round(crop_T_image[:, :2] @ place + crop_T_image[:, 2]).astype(int)
        assert crop[y, x, 0] == image[int(place[1]), int(place[0]), 0]
