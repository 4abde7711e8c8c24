"""People over time: from detections in frames to identities with a path each.

The first pass associates detections as frames come (:mod:`.online`) and puts them on disk; what
follows once the whole video is known works on that (:mod:`.tracks`).
"""
