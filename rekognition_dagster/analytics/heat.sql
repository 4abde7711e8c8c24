-- A row a cell of a camera's picture, 32 across and 18 down from the top left, and a day: for how
-- long people were there, and which way they moved (ratios of the picture a second).
-- per: day of day
WITH cells AS (
    SELECT
        r.camera,
        r.timezone,
        -- the offsets of time zones are quarters of an hour
        ((epoch_ms(r.recorded_at) + m.at_ms) // 900000)::BIGINT AS quarter,
        least(31, greatest(0, floor(m.x * 32)))::BIGINT AS cell_x,
        least(17, greatest(0, floor(m.y * 18)))::BIGINT AS cell_y,
        sum(m.step_ms) AS step_ms,
        sum(m.dx) AS dx,
        sum(m.dy) AS dy,
        sum(m.interpolated) AS interpolated,
        sum(m.detections) AS detections
    FROM samples AS m
    JOIN recordings AS r ON r.recording = m.recording
    WHERE m.step_ms IS NOT NULL
    GROUP BY ALL
)
SELECT
    camera,
    timezone(timezone, to_timestamp(quarter * 900))::DATE AS day,
    cell_x,
    cell_y,
    round(sum(step_ms) / 1000, 3) AS person_seconds,
    sum(dx) * 1000 / sum(step_ms) AS flow_x,
    sum(dy) * 1000 / sum(step_ms) AS flow_y,
    sum(interpolated) / sum(detections) AS interpolated_share
FROM cells
GROUP BY ALL
HAVING sum(step_ms) > 0
