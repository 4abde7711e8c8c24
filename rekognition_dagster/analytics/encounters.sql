-- A row two people of a video who were near each other for some time: nearer than `near`, for
-- `near_for` seconds, apart for no more than two seconds.
-- per: day of began_at
WITH pairs AS (
    SELECT
        a.recording,
        a.person_index AS person_a,
        b.person_index AS person_b,
        a.at_ms,
        coalesce(
            sqrt((a.east - b.east) ** 2 + (a.north - b.north) ** 2),
            sqrt(((a.x - b.x) * a.aspect) ** 2 + (a.y - b.y) ** 2)
            * 2 / nullif(a.height + b.height, 0)
        ) AS distance,
        a.interpolated + b.interpolated AS interpolated,
        a.detections + b.detections AS detections
    FROM samples AS a
    JOIN samples AS b
        ON b.recording = a.recording AND b.half = a.half AND b.person_index > a.person_index
    WHERE distance < getvariable('near')::DOUBLE
),
separated AS (
    SELECT *, coalesce(at_ms - lag(at_ms) OVER meeting > 2000, true) AS begins
    FROM pairs
    WINDOW meeting AS (PARTITION BY recording, person_a, person_b ORDER BY at_ms)
),
numbered AS (
    SELECT *, sum(begins::INTEGER) OVER meeting AS encounter
    FROM separated
    WINDOW meeting AS (PARTITION BY recording, person_a, person_b ORDER BY at_ms)
),
met AS (
    SELECT
        recording,
        person_a,
        person_b,
        min(at_ms) AS from_ms,
        max(at_ms) AS until_ms,
        min(distance) AS nearest,
        sum(interpolated) / sum(detections) AS interpolated_share
    FROM numbered
    GROUP BY recording, person_a, person_b, encounter
    HAVING until_ms - from_ms >= getvariable('near_ms')::DOUBLE
)
SELECT
    r.camera, -- The camera; null where none is known.
    r.video, -- The video.
    m.person_a::BIGINT AS person_a, -- One person of the video.
    m.person_b::BIGINT AS person_b, -- The other.
    r.recorded_at + to_milliseconds(round(m.from_ms)::BIGINT) AS began_at, -- UTC.
    r.recorded_at + to_milliseconds(round(m.until_ms)::BIGINT) AS ended_at, -- UTC.
    timezone(r.timezone, began_at) AS began_local, -- By the camera's clock.
    round(m.from_ms)::BIGINT AS began_ms, -- Milliseconds since the start of the video.
    round(m.until_ms)::BIGINT AS ended_ms, -- Milliseconds since the start of the video.
    round((m.until_ms - m.from_ms) / 1000, 3) AS seconds, -- How long.
    m.nearest, -- Their smallest distance.
    CASE WHEN r.has_ground THEN 'm' ELSE 'body heights' END AS unit, -- Of distances and speeds.
    m.interpolated_share -- Share of detections filled in.
FROM met AS m
JOIN recordings AS r ON r.recording = m.recording
