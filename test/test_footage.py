import cv2
import numpy as np
import pytest

from pose3d_ros.footage import FootageError, open_footage


def write_folder(folder, count=3, size=(40, 30)):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f'{number:03}.png'), np.full((size[1], size[0], 3), 10 * number, np.uint8))
    return folder


def write_video(path, count=5, size=(64, 48), fps=25.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), fps, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 40 * number, np.uint8))
    writer.release()
    return path


def test_a_folder_is_read_in_the_order_of_names_and_may_hold_other_files(tmp_path):
    folder = write_folder(tmp_path / 'images')
    (folder / 'notes.txt').write_text('not an image')
    footage = open_footage(str(folder))
    assert (footage.width, footage.height, footage.fps) == (40, 30, 0.0)
    assert [image[0, 0, 0] for image in footage.images()] == [0, 10, 20]
    assert len(list(footage.images())) == 3  # again, from the start


def test_a_video_has_its_size_rate_and_frames(tmp_path):
    footage = open_footage(str(write_video(tmp_path / 'clip.avi')))
    assert (footage.width, footage.height, footage.fps) == (64, 48, 25.0)
    levels = [image.mean() for image in footage.images()]
    np.testing.assert_allclose(levels, [0, 40, 80, 120, 160], atol=3)


def test_what_cannot_be_read_says_so(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.mp4').write_text('not a video')
    for source, words in (('', 'no footage given'), ('/nowhere.mp4', 'no such file'), (str(tmp_path / 'empty'),
                          'no images'), (str(tmp_path / 'text.mp4'), 'cannot be opened as a video'),
                          ('99', 'cannot be opened as a webcam')):
        with pytest.raises(FootageError, match=words):
            open_footage(source)


def test_images_of_two_sizes_are_no_camera(tmp_path):
    folder = write_folder(tmp_path / 'images')
    cv2.imwrite(str(folder / '999.png'), np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(FootageError, match='40 x 31'):
        list(open_footage(str(folder)).images())


def test_a_damaged_image_in_a_folder_is_named(tmp_path):
    folder = write_folder(tmp_path / 'images')
    (folder / '001.png').write_bytes(b'\x89PNG broken')
    with pytest.raises(FootageError, match='001.png'):
        list(open_footage(str(folder)).images())
