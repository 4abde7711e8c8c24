-- A row a cell of a camera's picture, 32 across and 18 down from the top left, and a day: for how
-- long people were there, and which way they moved (ratios of the picture a second). The
-- person-seconds of a camera's day are those of occupancy.
-- per: day of day
WITH placed AS (
    SELECT
        h.*,
        least(31, greatest(0, floor(h.x * 32)))::BIGINT AS cell_x,
        least(17, greatest(0, floor(h.y * 18)))::BIGINT AS cell_y,
        (r.start_ms // 500 + h.half) // 120 AS minute,
        r.start_ms + h.since_ms AS from_ms,
        greatest(0, minute * 60000 - from_ms) AS earlier_ms
    FROM halves AS h
    JOIN recordings AS r ON r.recording = h.recording
),
earlier AS (
    SELECT *, unnest(range(from_ms // 60000, minute)) AS earlier_minute
    FROM placed
    WHERE earlier_ms > 0
),
pieces AS (
    SELECT
        recording,
        minute,
        cell_x,
        cell_y,
        sum(present_ms - earlier_ms) AS present_ms,
        sum(along_x) AS along_x,
        sum(along_y) AS along_y,
        sum(interpolated) AS interpolated,
        sum(detections) AS detections
    FROM placed
    GROUP BY ALL
    UNION ALL
    SELECT
        recording,
        earlier_minute AS minute,
        cell_x,
        cell_y,
        (earlier_minute + 1) * 60000 - greatest(from_ms, earlier_minute * 60000) AS present_ms,
        NULL AS along_x,
        NULL AS along_y,
        NULL AS interpolated,
        NULL AS detections
    FROM earlier
)
SELECT
    m.camera, -- The camera; null where none is known.
    m.day, -- By the camera's clock.
    p.cell_x, -- From the left, 0 to 31.
    p.cell_y, -- From the top, 0 to 17.
    sum(p.present_ms)::BIGINT / 1000 AS person_seconds, -- Seconds that people were there, added up.
    sum(p.along_x) * 1000 / sum(p.present_ms) AS flow_x, -- Mean speed, widths a second.
    sum(p.along_y) * 1000 / sum(p.present_ms) AS flow_y, -- Mean speed down, heights a second.
    sum(p.interpolated) / sum(p.detections) AS interpolated_share -- Share of detections filled in.
FROM pieces AS p
JOIN minutes AS m ON m.recording = p.recording AND m.minute = p.minute
GROUP BY ALL
HAVING sum(p.present_ms) > 0
