-- A row a minute of the wall clock that a recording has a part of: how much of it.
WITH parts AS (
    SELECT
        *,
        start_ms + counts_from_ms AS from_ms,
        start_ms + duration_ms AS until_ms
    FROM recordings
    WHERE duration_ms > counts_from_ms
),
minutes AS (
    SELECT *, unnest(range(from_ms // 60000, (until_ms + 59999) // 60000)) AS minute
    FROM parts
)
SELECT
    recording,
    camera,
    minute,
    to_timestamp(minute * 60) AS minute_at,
    timezone(timezone, minute_at) AS minute_local,
    minute_at - to_minutes(extract('minute' FROM minute_local)) AS hour_at,
    minute_local::DATE AS day,
    least(until_ms, (minute + 1) * 60000) - greatest(from_ms, minute * 60000) AS recorded_ms
FROM minutes
