"""What robots run: predict, correct twice, check, return, as one graph; for the machine, and for any window lifter.

Wang, Lin, Jiang, Qian, Wei: 3D Human Pose Machines with Self-supervised Learning, section 3.5. Arguments and results
are those of nets/window.py's WindowLifter, which says where the body is and how sure its joints are; what is corrected
is the pose.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor, nn

from pose3d_ros.nets.correction import Correction
from pose3d_ros.nets.machine import Machine
from pose3d_ros.nets.window import Unit, WindowLifter


class CorrectedLifter(nn.Module):
    """A window lifter whose poses are corrected; the projector of the correction was trained on its poses."""

    def __init__(self, window: WindowLifter, correction: Correction) -> None:
        super().__init__()
        self.window, self.correction = window, correction

    def forward(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor, landmarks: Tensor,
                stature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        look, turned, turn = self.window.look(rays, confidence, age, up, landmarks)
        unit = self.window.answer(look, turned, turn, both_ways=True)
        pose = self.correction(unit.relative, turned, look.confidence[:, 0, :, 0], stature[:, :1]).pose
        return self.window.metric(replace(unit, relative=pose), stature)

    def folded(self) -> CorrectedLifter:
        """Return a copy for export; corrections are made of folded projectors in any case."""
        network = copy.deepcopy(self).eval()
        network.window = network.window.folded()
        return network


class MachineLifter(nn.Module):
    """The keypoint machine: pose from its memory and the newest frame, corrected; place and covariances of a window.

    Beside a window lifter's arguments: since (N, 1) s, the time since the person's last frame, and state (N, 2, 2, W),
    which the caller keeps per track id: zeros for a new one, and otherwise the last result for it, which comes last.
    """

    def __init__(self, window: WindowLifter, machine: Machine, correction: Correction) -> None:
        super().__init__()
        self.window, self.machine, self.correction = window, machine, correction

    def forward(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor, landmarks: Tensor, stature: Tensor,
                since: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        look, turned, turn = self.window.look(rays, confidence, age, up, landmarks)
        unit = self.window.answer(look, turned, turn, both_ways=True)
        pose, state = self.machine(look.now(), since, state)
        pose = self.correction(pose, turned, look.confidence[:, 0, :, 0], stature[:, :1]).pose
        return *self.window.metric(Unit(pose, unit.root, unit.factor, turn), stature), state

    def folded(self) -> MachineLifter:
        """Return a copy for export."""
        network = copy.deepcopy(self).eval()
        network.window, network.machine = network.window.folded(), network.machine.folded()
        return network
