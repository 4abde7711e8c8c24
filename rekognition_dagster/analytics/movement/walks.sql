-- A row a person without a long gap: from when to when they were followed, where they began and
-- ended, in ratios of the picture.
WITH last_points AS (
    SELECT
        recording,
        person_index,
        max(timestamp_ms) AS until_ms,
        arg_max(x, timestamp_ms) AS x,
        arg_max(y, timestamp_ms) AS y,
        max(number) AS number
    FROM positions
    GROUP BY recording, person_index
)
SELECT
    p.recording,
    p.person_index,
    row_number() OVER walk AS walk,
    p.timestamp_ms AS from_ms,
    p.x,
    p.y,
    coalesce(lead(p.last_ms) OVER walk, e.until_ms) AS until_ms,
    coalesce(lead(p.last_x) OVER walk, e.x) AS until_x,
    coalesce(lead(p.last_y) OVER walk, e.y) AS until_y,
    coalesce(lead(p.number) OVER walk, e.number + 1) - p.number AS detections
FROM positions AS p
JOIN last_points AS e ON e.recording = p.recording AND e.person_index = p.person_index
WHERE p.starts
WINDOW walk AS (PARTITION BY p.recording, p.person_index ORDER BY p.timestamp_ms)
