-- A row a person and half second: where they were on average, and how they moved since the one
-- before: in ratios of the picture, and in metres where there is a ground plane, else in body
-- heights. Nothing since a long gap.
WITH halves AS (
    SELECT
        recording,
        person_index,
        (timestamp_ms // 500)::INTEGER AS half,
        avg(timestamp_ms) AS at_ms,
        avg(x) AS x,
        avg(y) AS y,
        avg(height) AS height,
        count(*)::INTEGER AS detections,
        sum(interpolated::INTEGER)::INTEGER AS interpolated
    FROM positions
    GROUP BY recording, person_index, half
),
placed AS (
    SELECT
        h.*,
        r.aspect,
        (g.h0 * x + g.h1 * y + g.h2) / (g.h6 * x + g.h7 * y + g.h8) AS east,
        (g.h3 * x + g.h4 * y + g.h5) / (g.h6 * x + g.h7 * y + g.h8) AS north
    FROM halves AS h
    JOIN recordings AS r ON r.recording = h.recording
    LEFT JOIN grounds AS g ON g.recording = h.recording
),
stepped AS (
    SELECT
        *,
        lag(at_ms) OVER path AS last_ms,
        lag(x) OVER path AS last_x,
        lag(y) OVER path AS last_y,
        lag(east) OVER path AS last_east,
        lag(north) OVER path AS last_north
    FROM placed
    WINDOW path AS (PARTITION BY recording, person_index ORDER BY half)
)
SELECT
    * EXCLUDE (last_ms, last_x, last_y, last_east, last_north),
    CASE WHEN at_ms - last_ms <= getvariable('gap_ms')::BIGINT THEN at_ms - last_ms END AS step_ms,
    CASE WHEN step_ms IS NOT NULL THEN x - last_x END AS dx,
    CASE WHEN step_ms IS NOT NULL THEN y - last_y END AS dy,
    CASE WHEN step_ms IS NOT NULL THEN coalesce(
        sqrt((east - last_east) ** 2 + (north - last_north) ** 2),
        sqrt(((x - last_x) * aspect) ** 2 + (y - last_y) ** 2) / nullif(height, 0)
    ) END AS moved
FROM stepped
