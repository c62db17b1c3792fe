import numpy as np
import pytest

from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12, SKELETONS, SMPL24, Skeleton, mirrored, select

ALL = [*SKELETONS.values(), SMPL24]


@pytest.mark.parametrize('skeleton', ALL, ids=lambda skeleton: skeleton.name)
def test_mirroring_twice_changes_nothing_and_exchanges_sides(skeleton):
    np.testing.assert_array_equal(skeleton.mirror[skeleton.mirror], np.arange(len(skeleton)))
    for joint, other in zip(skeleton.joints, skeleton.mirror, strict=True):
        sides = {skeleton.side(joint), skeleton.side(skeleton.joints[other])}
        assert sides in ({'left', 'right'}, {'middle'})
        assert mirrored(joint) == skeleton.joints[other]


def test_a_joint_of_one_side_only_is_its_own_mirror_image():
    skeleton = Skeleton('own', ('left_hip', 'left_hand', 'right_hip', 'belly'), ())
    assert skeleton.mirror.tolist() == [2, 1, 0, 3]
    assert skeleton.lower.tolist() == [True, False, True, False]


@pytest.mark.parametrize('skeleton', ALL, ids=lambda skeleton: skeleton.name)
def test_the_lower_body_is_that_of_hips_and_legs(skeleton):
    lower = [joint for joint, is_lower in zip(skeleton.joints, skeleton.lower, strict=True) if is_lower]
    assert {f'{side}_{joint}' for side in ('left', 'right') for joint in ('hip', 'knee', 'ankle')} <= set(lower)
    assert not any(part in joint for joint in lower for part in ('shoulder', 'wrist', 'ear', 'spine'))


@pytest.mark.parametrize('skeleton', ALL, ids=lambda skeleton: skeleton.name)
def test_bones_come_in_mirrored_pairs(skeleton):
    bones = {frozenset(bone) for bone in skeleton.bones}
    assert {frozenset(mirrored(joint) for joint in bone) for bone in bones} == bones
    assert len(bones) == len(skeleton.bones)


@pytest.mark.parametrize('skeleton', [HUMAN17, SMPL24], ids=lambda skeleton: skeleton.name)
def test_parents_lead_to_the_pelvis(skeleton):
    for joint in skeleton.joints:
        steps = 0
        while joint != 'pelvis':
            joint = skeleton.parents[skeleton.index(joint)]
            steps += 1
            assert steps < len(skeleton)


def test_parents_of_smpl24_come_before_their_children():
    parents = [SMPL24.index(parent) if parent else -1 for parent in SMPL24.parents]
    assert all(parent < joint for joint, parent in enumerate(parents))
    assert parents == [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def test_selection_goes_by_name_and_leaves_unknown_joints_nan():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, len(BLAZEPOSE33), 2))
    chosen = select(values, BLAZEPOSE33, HUMAN17)
    assert chosen.shape == (4, 17, 2)
    for joint in HUMAN17.joints:
        got = chosen[:, HUMAN17.index(joint)]
        if joint in BLAZEPOSE33.joints:
            np.testing.assert_array_equal(got, values[:, BLAZEPOSE33.index(joint)])
        else:
            assert np.isnan(got).all()
    np.testing.assert_array_equal(select(values[..., 0], BLAZEPOSE33, LIMBS12, axis=-1),
                                  select(values, BLAZEPOSE33, LIMBS12)[..., 0])


def test_wrong_joint_counts_and_names_are_refused():
    with pytest.raises(ValueError, match='33'):
        select(np.zeros((12, 2)), BLAZEPOSE33, HUMAN17)
    with pytest.raises(KeyError, match='tail'):
        HUMAN17.index('tail')
    with pytest.raises(ValueError, match='repeat'):
        Skeleton('twice', ('a', 'a'), ())
    with pytest.raises(KeyError, match='b'):
        Skeleton('loose', ('a',), (('a', 'b'),))
