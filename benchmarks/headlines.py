"""The lines of README.md's table of figures: what each topic of docs/results is best known by."""

from __future__ import annotations

from typing import Any

_ONE, _EIGHT = ('cpu.{}.batch_' + size for size in ('1_p50_ms', '8_p50_ms'))
_FULL = 'pose_landmark_full'

# Topic: lines, each of a text with braces and the names of the figures for them.
LINES: dict[str, tuple[tuple[str, ...], ...]] = {
    'absolute': (
        ('the lifter on held-out people, robot cameras, whole body in view: MPJPE; MRPE with unknown stature / stature '
         'given / on a known floor | {:.0f} mm; {:.0f} / {:.0f} / {:.0f} mm', 'robot.mpjpe_mm', 'robot.mrpe_mm',
         'robot_stature.mrpe_mm', 'robot_ground.mrpe_mm'),
        ('the same: joints inside their 90 % ellipsoid, everybody; MRPE of the upper half against the whole body | '
         '{:.1%}; {:.2f} times', 'robot.coverage_90', 'robot.upper_half_mrpe_ratio'),
        ("real footage, the man's stature given: MRPE with the 2D model `heavy`, `full` | {:.0f}, {:.0f} mm",
         'sample_heavy_stature.mrpe_mm', 'sample_full_stature.mrpe_mm'),
        ('AbsPoseLifter as published, our data, four static cameras, true 2D joints: MPJPE / PA-MPJPE / MRPE | '
         '{:.0f} / {:.0f} / {:.0f} mm', 'lab_gt.mpjpe_mm', 'lab_gt.pa_mpjpe_mm', 'lab_gt.mrpe_mm'),
        ('lifting one person; eight | {:.2f}; {:.2f} ms', 'lift_1_ms', 'lift_8_ms')),
    'fusion': (
        ('several cameras, held-out people with 10 % outliers: MPJPE with 2 / 4 / 8 cameras | '
         '{:.0f} / {:.0f} / {:.0f} mm', 'synthetic.mpjpe_cameras2_mm', 'synthetic.mpjpe_cameras4_mm',
         'synthetic.mpjpe_cameras8_mm'),
        ('real footage, four cameras fused: median reprojection, cameras dropped per joint, with the places that came '
         'with it; with those found from the man | {:.1f} px, {:.2f}; {:.1f} px, {:.2f}', 'as shipped.median_px',
         'as shipped.cameras_dropped', 'refined.median_px', 'refined.cameras_dropped'),
        ('fusing eight people of four cameras; time of Pose2Sim over ours | {:.1f} ms; {:.1f}',
         'speed.people8_cameras4_ms', 'speed.ratio_pose2sim')),
    'geometric': (
        ('learning without labels, from four cameras of a laboratory: MPJPE of held-out people; of the same network '
         'with labels; with re-projection alone | {:.0f}; {:.0f}; {:.0f} mm', 'transform.mpjpe_mm',
         'supervised.mpjpe_mm', 'reprojection_only.mpjpe_mm'),
        ('`pose3d adapt` on one second of real footage: cross-view error, MRPE lower by | {:.0%}, {:.0%}',
         'site_sample.crossview_gain', 'site_sample.mrpe_gain'),
        ('`pose3d adapt` at unusual synthetic sites (child, tall person, high cameras, wide lenses): MRPE lower by | '
         '{:.0%}', 'site_synthetic.mrpe_gain')),
    'parts': (
        ('body parts that depend on one another, one frame, whole body in view: MPJPE of plain network / baseline / '
         'progressive / with attributes | {:.1f} / {:.1f} / {:.1f} / {:.1f} mm', 'plain.mpjpe_mm', 'baseline.mpjpe_mm',
         'progressive.mpjpe_mm', 'attributes.mpjpe_mm'),),
    'posenet3d': (
        ('3D from 2D poses alone (PoseNet3D): P-MPJPE of the teacher; of the same network with labels; of teacher and '
         'student together | {:.0f}; {:.0f}; {:.0f} mm', 'teacher_9.p_mpjpe_mm', 'supervised.p_mpjpe_mm',
         'average.p_mpjpe_mm'),
        ('the same, as a body model: re-projection alone / taught / taught, joints adapted | '
         '{:.0f} / {:.0f} / {:.0f} mm',
         'student_direct.p_mpjpe_mm', 'student_distilled.p_mpjpe_mm', 'student_convex.p_mpjpe_mm'),
        ('skin of one person (3,920 vertices) from rotations and shape | {:.2f} ms', 'skinning_ms')),
    'engines': (
        ('one tile searched; joints of one person, of eight (`full`); one person lifted, on the CPU | '
         '{:.1f}; {:.1f}, {:.1f}; {:.2f} ms', _ONE.format('pose_detection'), _ONE.format(_FULL), _EIGHT.format(_FULL),
         _ONE.format('lifter')),
        ('time on ONNX Runtime over PyTorch (eager), same threads: joints (`full`); lifter; mean of all networks | '
         '{:.2f}; {:.2f}; {:.2f}', f'ort_vs_torch.{_FULL}.batch_1_ratio', 'ort_vs_torch.lifter.batch_1_ratio',
         'ort_vs_torch_ratio'),
        ('time of the pruned joint network over the whole; of two cameras in one call over one after the other | '
         '{:.2f}; {:.2f}', 'pruned_vs_full_ratio', 'two_cameras.together_ratio'),
        ("two nodes' engines on two cores: throughput over that of one; with threads that spin, over that without | "
         '{:.2f}; {:.2f}', 'nodes.chosen.two_vs_one_throughput_ratio',
         'nodes_vs_chosen.spinning.two_calls_per_s_ratio'),
        ('TensorRT FP16: time over PyTorch compiled; over the physical floor | {:.2f}; {:.1f}',
         'trt_fp16_vs_torch_compiled_ratio', 'trt_fp16_vs_floor_ratio'))}


def owns(part: dict[str, Any], figure: str) -> bool:
    """Return whether a figure, or a group of them, is of one of the groups of a part."""
    return any(f'{figure}.'.startswith(f'{group}.') for group in part['groups'])


def headlines(topic: str, kept: dict[str, Any]) -> list[list[str]]:
    """Return [text, command] of each line of a topic whose figures have all been measured; kept: its file."""
    figures, rows = kept.get('figures', {}), []
    for text, *names in LINES[topic]:
        if all(figures.get(name) is not None for name in names):
            owner = next((part for part in kept.get('parts', {}).values() if owns(part, names[0])), kept)
            rows.append([text.format(*(figures[name] for name in names)), owner['command']])
    return rows
