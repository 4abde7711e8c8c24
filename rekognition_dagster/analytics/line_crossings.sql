-- A row a person who crossed a line, and the direction. One who is back before they were settled on
-- the other side has not crossed it.
-- per: day of crossed_at
WITH crossed AS (
    SELECT b.*, s.name AS line, s.settle_ms, s.to_left AS left_name, s.to_right AS right_name
    FROM line_borders AS b
    JOIN line_shapes AS s ON s.recording = b.recording AND s.shape = b.shape
),
separated AS (
    SELECT *, coalesce(at_ms - lag(at_ms) OVER path >= settle_ms, true) AS is_settled
    FROM crossed
    WINDOW path AS (PARTITION BY recording, person_index, walk, shape ORDER BY at_ms)
),
numbered AS (
    SELECT *, sum(is_settled::INTEGER) OVER path AS attempt
    FROM separated
    WINDOW path AS (PARTITION BY recording, person_index, walk, shape ORDER BY at_ms)
),
attempts AS (
    SELECT
        recording,
        person_index,
        shape,
        line,
        left_name,
        right_name,
        sum(CASE WHEN to_left THEN 1 ELSE -1 END) AS net,
        max(at_ms) FILTER (to_left) AS last_to_left,
        max(at_ms) FILTER (NOT to_left) AS last_to_right
    FROM numbered
    GROUP BY recording, person_index, walk, shape, line, left_name, right_name, attempt, settle_ms
    HAVING
        net <> 0
        AND min(at_ms) - min(from_ms) >= settle_ms
        AND max(until_ms) - max(at_ms) >= settle_ms
),
moments AS (
    SELECT *, CASE WHEN net > 0 THEN last_to_left ELSE last_to_right END AS at_ms
    FROM attempts
),
speeds AS (
    SELECT
        c.recording,
        c.person_index,
        c.shape,
        c.at_ms,
        sum(m.moved) * 1000 / nullif(sum(m.step_ms), 0) AS speed,
        sum(m.interpolated) / sum(m.detections) AS interpolated_share
    FROM moments AS c
    JOIN samples AS m
        ON
            m.recording = c.recording
            AND m.person_index = c.person_index
            AND m.at_ms BETWEEN c.at_ms - 1000 AND c.at_ms + 1000
    GROUP BY ALL
)
SELECT
    r.camera, -- The camera; null where none is known.
    c.line, -- The line.
    CASE WHEN c.net > 0 THEN c.left_name ELSE c.right_name END AS direction, -- The side gone to.
    r.video, -- The video.
    c.person_index::BIGINT AS person_index, -- Which person of the video.
    r.recorded_at + to_milliseconds(round(c.at_ms)::BIGINT) AS crossed_at, -- When, UTC.
    timezone(r.timezone, crossed_at) AS crossed_local, -- When by the camera's clock.
    round(c.at_ms)::BIGINT AS crossed_ms, -- Milliseconds since the start of the video.
    s.speed, -- Within a second of it.
    CASE WHEN r.has_ground THEN 'm/s' ELSE 'body heights/s' END AS unit, -- Of distances and speeds.
    s.interpolated_share -- Share of detections filled in.
FROM moments AS c
JOIN recordings AS r ON r.recording = c.recording
LEFT JOIN speeds AS s
    ON
        s.recording = c.recording
        AND s.person_index = c.person_index
        AND s.shape = c.shape
        AND s.at_ms = c.at_ms
