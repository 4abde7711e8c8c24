-- A row a person of a video: first and last seen, time present, length of the path in frame widths,
-- mean box; camera, and when by the wall clock.
WITH points AS (
    SELECT
        d.video,
        v.camera,
        v.timezone,
        v.recorded_at,
        d.person_index,
        d.timestamp_ms,
        d.bounding_box AS box,
        d.bounding_box.left + d.bounding_box.width / 2 AS x,
        -- in frame widths too, so that a step down is as long as the same step across
        (d.bounding_box.top + d.bounding_box.height / 2)
        * coalesce(v.height / nullif(v.width, 0), 1) AS y
    FROM person_detections AS d
    LEFT JOIN videos AS v ON v.video = d.video
),
steps AS (
    SELECT *, lag(x) OVER path AS previous_x, lag(y) OVER path AS previous_y
    FROM points
    WINDOW path AS (PARTITION BY video, person_index ORDER BY timestamp_ms)
)
SELECT
    video,
    person_index,
    min(timestamp_ms) AS first_seen_ms,
    max(timestamp_ms) AS last_seen_ms,
    max(timestamp_ms) - min(timestamp_ms) AS dwell_ms,
    count(*) AS detections,
    coalesce(sum(sqrt((x - previous_x) ** 2 + (y - previous_y) ** 2)), 0) AS path_length,
    {
        'left': avg(box.left),
        'top': avg(box.top),
        'width': avg(box.width),
        'height': avg(box.height)
    } AS mean_bounding_box,
    any_value(camera) AS camera,
    any_value(recorded_at) + to_milliseconds(min(timestamp_ms)) AS first_seen_at,
    any_value(recorded_at) + to_milliseconds(max(timestamp_ms)) AS last_seen_at,
    timezone(any_value(timezone), first_seen_at) AS first_seen_local,
    timezone(any_value(timezone), last_seen_at) AS last_seen_local
FROM steps
GROUP BY video, person_index
