"""The first pass: detections of one frame after another get the number of a tracklet.

ByteTrack (Zhang et al. 2022) from the ``trackers`` package, with thresholds on the detector's own
score scale and true times.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import supervision as sv
from trackers import ByteTrackTracker

from rekognition_dagster.engine.detectors import ScoreScale


class Association:
    """Numbers the tracklets of one video.

    Args:
        scores: The detector's scale.
        frame_rate: Frames looked at in a second.
    """

    def __init__(self, scores: ScoreScale, frame_rate: float) -> None:
        self._tracker = ByteTrackTracker(
            frame_rate=frame_rate,
            track_activation_threshold=scores.sure,
            high_conf_det_threshold=scores.sure,
            minimum_consecutive_frames=1,
        )

    def update(self, people: sv.Detections, timestamp_ms: int) -> sv.Detections:
        """The detections of one frame that belong to a tracklet, with ``tracker_id``."""
        tracked = self._tracker.update(people, timestamp=timestamp_ms / 1000)
        ids: npt.NDArray = np.asarray(
            tracked.tracker_id if tracked.tracker_id is not None else [], int
        )
        kept = tracked[ids >= 0]
        assert isinstance(kept, sv.Detections)
        return kept
