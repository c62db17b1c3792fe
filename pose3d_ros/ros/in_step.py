"""Parameters of nodes when videos are the cameras: in step, as fast as filmed or as slow as the machine needs.

Each frame waits until the fused people of the one before came, so that no machine is too slow and no frame is lost; and
fusion waits for those who wait for it.
"""

from __future__ import annotations

from typing import Any

VIDEO_IN_STEP: dict[str, Any] = {'pace': 'consumed'}  # of video_node, with start_at; its people: those of fusion_node
FUSION_IN_STEP: dict[str, Any] = {'max_wait': 4.0, 'max_age': 4.0, 'camera_timeout': 5.0}  # of fusion_node
