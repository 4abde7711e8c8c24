-- A row a person at a time: the point at which they are, and the one before it. Only what no
-- earlier file of the camera has. `starts` where the one before is missing or too long ago. `half`:
-- the half second of the wall clock, from 0 for the one in which the recording begins.
SELECT
    r.recording,
    d.person_index::INTEGER AS person_index,
    d.timestamp_ms,
    ((r.start_ms % 500 + d.timestamp_ms) // 500)::INTEGER AS half,
    d.bounding_box.left::DOUBLE + d.bounding_box.width::DOUBLE / 2 AS x,
    d.bounding_box.top::DOUBLE
    + d.bounding_box.height::DOUBLE * getvariable('point_share')::DOUBLE AS y,
    d.bounding_box.height AS height,
    coalesce(d.interpolated, false) AS interpolated,
    lag(d.timestamp_ms) OVER path AS last_ms,
    lag(x) OVER path AS last_x,
    lag(y) OVER path AS last_y,
    coalesce(d.timestamp_ms - last_ms > getvariable('gap_ms')::BIGINT, true) AS starts,
    row_number() OVER path AS number
FROM person_detections AS d
JOIN recordings AS r ON r.video = d.video
WHERE d.timestamp_ms >= r.counts_from_ms
WINDOW path AS (PARTITION BY r.recording, d.person_index ORDER BY d.timestamp_ms)
