-- A row a person's stay in a zone: when they entered and left, for how long they stood still, how
-- far and fast they moved (in metres with a ground plane, else in body heights).
-- `inside_at_start`: the person is in the zone when first detected; `inside_at_end`: when last.
-- per: day of entered_at
WITH began AS (
    SELECT
        w.recording,
        w.person_index,
        w.walk,
        w.from_ms,
        w.until_ms,
        e.shape,
        count(*) FILTER (
            (e.y1 < w.y) <> (e.y2 < w.y)
            AND w.x < (e.x2 - e.x1) * (w.y - e.y1) / (e.y2 - e.y1) + e.x1
        ) % 2 = 1 AS inside
    FROM walks AS w
    JOIN zone_edges AS e ON e.recording = w.recording
    GROUP BY ALL
),
changes AS (
    SELECT recording, person_index, walk, shape, from_ms::DOUBLE AS at_ms, until_ms, inside, 0 AS n
    FROM began
    WHERE inside OR (recording, person_index, walk, shape) IN (
        SELECT (recording, person_index, walk, shape) FROM zone_borders
    )
    UNION ALL
    SELECT
        recording,
        person_index,
        walk,
        shape,
        at_ms,
        until_ms,
        NULL AS inside,
        1 AS n
    FROM zone_borders
),
stretches AS (
    SELECT
        *,
        coalesce(lead(at_ms) OVER path, until_ms) AS ends_ms,
        -- each border changes it
        first_value(inside) OVER path <> (row_number() OVER path % 2 = 0) AS is_inside
    FROM changes
    WINDOW path AS (PARTITION BY recording, person_index, walk, shape ORDER BY n, at_ms)
),
settled AS (
    SELECT t.*, s.name AS zone
    FROM stretches AS t
    JOIN zone_shapes AS s ON s.recording = t.recording AND s.shape = t.shape
    WHERE t.ends_ms - t.at_ms >= s.settle_ms
),
sides AS (
    SELECT
        *,
        lag(is_inside) OVER path AS was_inside
    FROM settled
    WINDOW path AS (PARTITION BY recording, person_index, walk, shape ORDER BY at_ms)
    QUALIFY was_inside IS NULL OR was_inside <> is_inside
),
stays AS (
    SELECT
        *,
        coalesce(lead(at_ms) OVER path, until_ms) AS left_ms,
        lead(at_ms) OVER path IS NULL AS inside_at_end
    FROM sides
    WINDOW path AS (PARTITION BY recording, person_index, walk, shape ORDER BY at_ms)
    QUALIFY is_inside
),
movement AS (
    SELECT
        t.recording,
        t.person_index,
        t.shape,
        t.at_ms,
        sum(m.moved) AS distance,
        sum(m.step_ms) AS followed_ms,
        sum(m.step_ms) FILTER (m.moved * 1000 < getvariable('still')::DOUBLE * m.step_ms)
            AS still_ms,
        sum(m.interpolated) / sum(m.detections) AS interpolated_share
    FROM stays AS t
    JOIN samples AS m
        ON
            m.recording = t.recording
            AND m.person_index = t.person_index
            AND m.at_ms BETWEEN t.at_ms AND t.left_ms
    GROUP BY ALL
)
SELECT
    r.camera, -- The camera; null where none is known.
    t.zone, -- The zone.
    r.video, -- The video.
    t.person_index::BIGINT AS person_index, -- Which person of the video.
    r.recorded_at + to_milliseconds(round(t.at_ms)::BIGINT) AS entered_at, -- UTC.
    r.recorded_at + to_milliseconds(round(t.left_ms)::BIGINT) AS left_at, -- UTC.
    timezone(r.timezone, entered_at) AS entered_local, -- By the camera's clock.
    timezone(r.timezone, left_at) AS left_local, -- By the camera's clock.
    round(t.at_ms)::BIGINT AS entered_ms, -- Milliseconds since the start of the video.
    round(t.left_ms)::BIGINT AS left_ms, -- Milliseconds since the start of the video.
    round((t.left_ms - t.at_ms) / 1000, 3) AS dwell_s, -- Seconds from entering to leaving.
    round(coalesce(m.still_ms, 0) / 1000, 3) AS stood_still_s, -- Seconds of it without moving.
    m.distance, -- Length of their path in it.
    m.distance * 1000 / nullif(m.followed_ms, 0) AS speed, -- Mean speed.
    CASE WHEN r.has_ground THEN 'm' ELSE 'body heights' END AS unit, -- Of distances and speeds.
    t.was_inside IS NULL AS inside_at_start, -- Is there when first detected.
    t.inside_at_end, -- Is there when last detected.
    m.interpolated_share -- Share of detections filled in.
FROM stays AS t
JOIN recordings AS r ON r.recording = t.recording
LEFT JOIN movement AS m
    ON
        m.recording = t.recording
        AND m.person_index = t.person_index
        AND m.shape = t.shape
        AND m.at_ms = t.at_ms
