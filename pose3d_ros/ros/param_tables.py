"""Every parameter of the nodes, once: type, default, unit, range and description."""

from __future__ import annotations

from pose3d_ros.detect import DetectSettings
from pose3d_ros.fuse.fuser import FuseSettings
from pose3d_ros.lift import DEFAULT_LIFTER, LIFTERS
from pose3d_ros.refine import RefineSettings
from pose3d_ros.ros.images import MAX_PIXELS
from pose3d_ros.ros.params import Parameter
from pose3d_ros.runtime.engine import PRECISIONS, RUNTIMES
from pose3d_ros.track import TrackSettings

GROUND_SOURCES = ('none', 'parameters', 'tf')
EXTRINSICS_SOURCES = ('tf', 'file')
CAMERAS = ['front', 'left', 'right']


def _of(settings: type, name: str, description: str, unit: str = '', low: float | None = None,
        high: float | None = None) -> Parameter:
    """Return the parameter for a field of a settings class, which has the default."""
    return Parameter(name, getattr(settings, name), description, unit, low, high, settings=settings)


MONO = (
    Parameter('autostart', True, 'Configure and activate at start; false leaves that to a lifecycle manager.',
              fixed=True),
    # Networks
    Parameter('detector_model', 'full', 'BlazePose landmark model (lite is fastest, heavy most accurate), or the '
              'description of a model of your own (docs/own_models.md).', choices=('lite', 'full', 'heavy'),
              or_file='.yaml'),
    Parameter('search_model', 'blazepose', 'What looks for people: the BlazePose detector, or the description of a '
              'model of your own that gives boxes (docs/own_models.md).', choices=('blazepose',), or_file='.yaml'),
    Parameter('lifter', DEFAULT_LIFTER, 'What lifts 2D joints to 3D: window (docs/models/lifter.md), parts '
              '(docs/parts.md), posenet3d, which gives bodies too (docs/posenet3d.md), or a file of '
              '`pose3d adapt` (docs/adapt.md).', choices=tuple(LIFTERS),
              or_file='.onnx'),
    Parameter('body_model', '', 'File of the body model that the lifter was trained with, where it gives bodies '
              '(topics bodies, mesh: docs/topics.md), made by `pose3d body-model convert`; empty: the mannequin that '
              'ships.', choices=('',), or_file='.npz'),
    Parameter('runtime', 'auto', 'What computes the networks: auto takes the first that can be used of TensorRT, ONNX '
              'Runtime on CUDA, and ONNX Runtime on the CPU (docs/engines.md).', choices=RUNTIMES),
    Parameter('precision', 'auto', 'Of TensorRT engines: auto takes fp16, or where that fails the check against the '
              'CPU, mixed, then fp32.', choices=PRECISIONS),
    Parameter('build_while_running', True, 'While a TensorRT engine is built (minutes, once), work on ONNX Runtime; '
              'false drops the images until then.'),
    Parameter('threads', 0, 'Processor threads per network on the CPU; 0 chooses.', low=0, high=64),
    # Input
    Parameter('image_transport', 'raw', 'raw reads the topic image, compressed reads image/compressed (JPEG, PNG).',
              choices=('raw', 'compressed')),
    Parameter('image_reliability', 'best_effort', 'QoS of the image subscription; best_effort accepts every publisher.',
              choices=('best_effort', 'reliable')),
    Parameter('rectification', 'auto', 'Whether the images are rectified, so that P of camera_info holds instead of K '
              'and D; auto: they are when the last part of the topic contains "rect".',
              choices=('auto', 'raw', 'rectified')),
    Parameter('max_pixels', MAX_PIXELS, 'Larger images are refused.', 'px', 1, 1_000_000_000),
    Parameter('camera_info_timeout', 5.0, 'Images without camera_info are reported after this time.', 's', 0.0, 3600.0),
    # Finding people
    _of(DetectSettings, 'search_period', 'Frames over which a search of the whole image for new people is spread; '
        'near the camera they are seen after half of them.',
        'frames', 1, 1000),
    _of(DetectSettings, 'min_person_height', 'Smallest person to find, as a share of the image height; half of it '
        'makes the search four times as dear.', '', 0.05, 1.0),
    _of(DetectSettings, 'max_people', 'People followed at most; each costs one run of the landmark network per frame.',
        '', 1, 100),
    _of(DetectSettings, 'detection_threshold', 'Score from which a find of the search is looked at closely.', '', 0.01,
        0.99),
    _of(DetectSettings, 'presence_threshold', 'Certainty of the landmark model from which somebody new is a person.',
        '', 0.0, 1.0),
    _of(DetectSettings, 'confidence_threshold', 'Mean confidence of the joints in view from which somebody new is a '
        'person.', '', 0.0, 1.0),
    _of(DetectSettings, 'keep_presence', 'The same certainty for somebody who is followed already: at most '
        'presence_threshold.', '', 0.0, 1.0),
    _of(DetectSettings, 'keep_confidence', 'The same confidence for somebody who is followed already: at most '
        'confidence_threshold.', '', 0.0, 1.0),
    # Following people
    _of(TrackSettings, 'confirm_frames', 'Sightings before a person counts as TRACKED.', 'frames', 1, 100),
    _of(TrackSettings, 'max_lost_s', 'A person out of sight keeps the id for this time.', 's', 0.0, 60.0),
    _of(TrackSettings, 'swap_guard', 'Correct left and right where the detector exchanges them.'),
    # Size and place: one camera alone cannot tell a tall person far away from a small one near by
    Parameter('stature', 0.0, 'Stature of everybody in view, where it is known; 0: it is not.', 'm', 0.0, 2.5),
    Parameter('ground_source', 'none', 'Where the floor under the camera is known from: parameters (camera_height, '
              'camera_pitch, camera_roll) for a camera at a fixed place, tf for any other. With a floor, people whose '
              'feet are in view are placed on it, and their statures are learned.', choices=GROUND_SOURCES),
    Parameter('camera_height', 0.0, 'Height of the camera above the floor, with ground_source parameters.', 'm', 0.0,
              50.0),
    Parameter('camera_pitch', 0.0, 'Pitch of the camera as in its URDF (REP-103): 0 looks level, positive looks down.',
              'deg', -90.0, 90.0),
    Parameter('camera_roll', 0.0, 'Roll of the camera as in its URDF (REP-103): positive leans to the right, so that '
              'things in the image lean to the left.', 'deg', -180.0, 180.0),
    Parameter('ground_frame', 'base_footprint', 'Frame whose plane z = 0 is the floor, with ground_source tf; asked at '
              'the stamp of each image.'),
    Parameter('ground_tilt_sigma', 0.6, 'How exactly the tilt of the floor against the camera is known (one standard '
              'deviation).', 'deg', 0.01, 45.0),
    Parameter('ground_height_sigma', 0.02, 'How exactly the height of the camera is known (one standard deviation).',
              'm', 0.001, 5.0),
    _of(RefineSettings, 'smoothing', 'Publish smoothed joints; false publishes them as measured.'),
    _of(RefineSettings, 'acceleration', 'How hard joints accelerate (one standard deviation): more follows fast motion '
        'closer, less is smoother.', 'm/s^2', 0.1, 1000.0),
    # Output
    Parameter('publish_tf', False, 'Publish TF frames body_ID at the pelvis of each person (REP-155); in a namespace '
              'NS they are called NS/body_ID.'),
    Parameter('mesh_rate', 10.0, 'Messages of topic mesh for each second of footage, at most, while somebody '
              'subscribes; 0: there is no such topic, and body_model is not read.', 'Hz', 0.0, 1000.0),
)

MULTI = (
    Parameter('cameras', CAMERAS, 'Names of the cameras. Each has its own topics NAME/image, NAME/camera_info and '
              'NAME/people; the networks are shared, and every other parameter holds for all cameras (where they have '
              'the floor in different places: ground_source tf).'),
    *MONO,
)

FUSION = (
    Parameter('autostart', True, 'Configure and activate at start; false leaves that to a lifecycle manager.',
              fixed=True),
    Parameter('cameras', CAMERAS, 'Names of the cameras, whose people are read from NAME/people_2d and NAME/people.'),
    # Where the cameras are
    Parameter('frame', 'map', 'Common frame of the fused people, z up.'),
    Parameter('extrinsics_source', 'tf', 'Where the places of the cameras are known from: tf, asked at the stamp of '
              'each image (the cameras may move), or file (calibration).', choices=EXTRINSICS_SOURCES),
    Parameter('calibration', '', 'File with the places of the cameras (docs/calibration.md), with extrinsics_source '
              'file.'),
    Parameter('calibration_window', 60.0, '~/calibrate finds the places of the cameras from what they saw for so long '
              '(docs/extrinsics.md).', 's', 5.0, 600.0),
    Parameter('calibration_place_sigma', 0.03, 'How well the places are known that ~/calibrate starts from; 0: they '
              'are a start and nothing more.', 'm', 0.0, 10.0),
    Parameter('calibration_stature', 0.0, 'Stature of the person who is seen most: gives ~/calibrate the size of the '
              'scene; 0: the known places of two cameras do.', 'm', 0.0, 2.5),
    Parameter('calibration_out', '~/.ros/pose3d_ros/extrinsics.yaml', 'Where ~/calibrate writes the places, and beside '
              'it a launch file of static TF.'),
    Parameter('tf_tolerance', 0.1, 'How long a transform that has not come yet is asked for again.', 's', 0.0, 10.0),
    # Time
    Parameter('max_wait', 0.05, 'How long a moment waits for the cameras that have not reported yet.', 's', 0.0, 10.0),
    Parameter('max_age', 0.25, 'What a camera saw so long before the others is still used; a camera whose stamps are '
              'farther off is left out.', 's', 0.01, 10.0),
    Parameter('camera_timeout', 1.0, 'A camera from which nothing came for so long is not waited for, and its ids are '
              'not those of before; longer than its period.', 's', 0.05, 3600.0),
    # People
    _of(FuseSettings, 'confirm', 'Sightings before a person counts as TRACKED.', '', 1, 100),
    _of(FuseSettings, 'max_predicted_s', 'A person nobody sees is published (PREDICTED) for this time.', 's', 0.0,
        60.0),
    _of(FuseSettings, 'max_lost_s', 'A person nobody sees keeps the id for this time.', 's', 0.0, 60.0),
    _of(FuseSettings, 'forget_joint_s', 'A joint nobody sees is published for this time.', 's', 0.0, 60.0),
    # Output
    Parameter('publish_tf', False, 'Publish TF frames body_ID at the pelvis of each person (REP-155); in a namespace '
              'NS they are called NS/body_ID.'),
)

VIDEO = (
    Parameter('video', '', 'Video file, folder of images (in the order of their names), or number of a webcam.',
              fixed=True),
    Parameter('calibration', '', 'File with the calibration of the camera (docs/calibration.md).', fixed=True),
    Parameter('camera_name', '', 'Which camera of the calibration; empty where it has only one.', fixed=True),
    Parameter('frame_id', 'camera', 'Optical frame of the images.', fixed=True),
    Parameter('rate', 0.0, 'Frames per second; 0 takes that of the video (30 for a folder).', 'Hz', 0.0, 1000.0,
              fixed=True),
    Parameter('pace', 'realtime', 'realtime, or consumed: each frame waits until people came for the one before.',
              choices=('realtime', 'consumed'), fixed=True),
    Parameter('consume_timeout', 5.0, 'With pace consumed, a frame without people is given up after this time.', 's',
              0.1, 600.0, fixed=True),
    Parameter('loop', False, 'Start again at the end; the node ends otherwise.', fixed=True),
    Parameter('start_at', 0.0, 'When the first frame was taken, by the clock, so that several nodes play in step: '
              'stamps follow the footage from then on, and what comes late is left out (with pace consumed: what the '
              'others are beyond). 0: as soon as there is a subscriber; -1: waits until it is set.', 's', -1.0, 1e11),
    Parameter('image_transport', 'raw', 'raw publishes image, compressed publishes image/compressed (JPEG).',
              choices=('raw', 'compressed'), fixed=True),
    Parameter('wait_for_subscriber', 10.0, 'Waits for a subscriber for at most this time before the first frame.', 's',
              0.0, 3600.0, fixed=True),
)

NODES: dict[str, tuple[Parameter, ...]] = {'mono_node': MONO, 'multi_node': MULTI, 'fusion_node': FUSION,
                                           'video_node': VIDEO}
FILES = {'mono': ('mono_node', 'video_node'), 'multi': tuple(NODES)}  # config/NAME.yaml: parameters of which nodes
