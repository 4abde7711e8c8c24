-- A row a person and minute of the wall clock: from when to when they were there, in a zone, or in
-- the picture (without a zone). `arrives` in the minute in which they came.
-- `begins_mid_picture`: a door, or the rest of a broken track.
WITH spans AS (
    SELECT
        w.recording,
        NULL::VARCHAR AS zone,
        w.person_index,
        r.start_ms + w.from_ms AS from_ms,
        r.start_ms + w.until_ms AS until_ms,
        w.walk = 1 AND w.from_ms > r.counts_from_ms + 1000 AS arrives,
        arrives AND w.x BETWEEN 0.08 AND 0.92 AND w.y < 0.95 AS begins_mid_picture
    FROM walks AS w
    JOIN recordings AS r ON r.recording = w.recording
    UNION ALL
    SELECT
        r.recording,
        v.zone,
        v.person_index::INTEGER AS person_index,
        r.start_ms + v.entered_ms AS from_ms,
        r.start_ms + v.left_ms AS until_ms,
        NOT v.inside_at_start AS arrives,
        v.inside_at_start AS begins_mid_picture
    FROM zone_visits AS v
    JOIN recordings AS r ON r.video = v.video
),
pieces AS (
    SELECT *, unnest(range(from_ms // 60000, greatest(until_ms - 1, from_ms) // 60000 + 1)) AS minute
    FROM spans
)
SELECT
    recording,
    zone,
    person_index,
    minute,
    greatest(from_ms, minute * 60000) AS from_ms,
    least(until_ms, (minute + 1) * 60000) AS until_ms,
    arrives AND from_ms >= minute * 60000 AS arrives,
    begins_mid_picture AND from_ms >= minute * 60000 AS begins_mid_picture
FROM pieces
