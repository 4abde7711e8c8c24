-- A row a person who crossed the frame: from which side to which, and how long it took.
WITH path AS (
    SELECT
        video,
        person_index,
        min(timestamp_ms) AS first_seen_ms,
        max(timestamp_ms) AS last_seen_ms,
        arg_min(bounding_box.left + bounding_box.width / 2, timestamp_ms) AS first_x,
        arg_max(bounding_box.left + bounding_box.width / 2, timestamp_ms) AS last_x
    FROM person_detections
    GROUP BY video, person_index
)
SELECT
    video,
    person_index,
    CASE WHEN last_x > first_x THEN 'left to right' ELSE 'right to left' END AS direction,
    first_seen_ms,
    last_seen_ms - first_seen_ms AS duration_ms
FROM path
WHERE abs(last_x - first_x) >= 0.5
