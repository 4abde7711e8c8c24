-- A row a person and half second of the wall clock: where they were on average, in ratios of the
-- picture, and how they moved since the half second before; nothing since a long gap. `present_ms`
-- is the time since the detection before each, where there was no long gap, and `along_x`, `along_y`
-- the way; they begin at `since_ms`.
WITH halves AS (
    SELECT
        recording,
        person_index,
        half,
        avg(timestamp_ms) AS at_ms,
        avg(x) AS x,
        avg(y) AS y,
        avg(height) AS height,
        count(*)::INTEGER AS detections,
        sum(interpolated::INTEGER)::INTEGER AS interpolated,
        min(last_ms) FILTER (NOT starts) AS since_ms,
        coalesce(sum(timestamp_ms - last_ms) FILTER (NOT starts), 0)::BIGINT AS present_ms,
        sum(x - last_x) FILTER (NOT starts) AS along_x,
        sum(y - last_y) FILTER (NOT starts) AS along_y
    FROM positions
    GROUP BY recording, person_index, half
),
stepped AS (
    SELECT
        *,
        lag(at_ms) OVER path AS last_ms,
        lag(x) OVER path AS last_x,
        lag(y) OVER path AS last_y
    FROM halves
    WINDOW path AS (PARTITION BY recording, person_index ORDER BY half)
)
SELECT
    * EXCLUDE (last_ms, last_x, last_y),
    CASE WHEN at_ms - last_ms <= getvariable('gap_ms')::BIGINT THEN at_ms - last_ms END AS step_ms,
    CASE WHEN step_ms IS NOT NULL THEN x - last_x END AS dx,
    CASE WHEN step_ms IS NOT NULL THEN y - last_y END AS dy
FROM stepped
