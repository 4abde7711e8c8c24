-- A row a person who was there for two seconds or more: from when to when, and whether a face was
-- seen.
SELECT
    video,
    person_index,
    min(timestamp_ms) AS from_ms,
    max(timestamp_ms) AS to_ms,
    bool_or(face IS NOT NULL) AS face_seen
FROM person_detections
GROUP BY video, person_index
HAVING max(timestamp_ms) - min(timestamp_ms) >= 2000
