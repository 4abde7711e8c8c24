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
    video, -- The video, as s3://bucket/key or file:///path.
    person_index, -- Which person of this video, from 0.
    min(timestamp_ms) AS first_seen_ms, -- Milliseconds since the start of the video.
    max(timestamp_ms) AS last_seen_ms, -- Milliseconds since the start of the video.
    max(timestamp_ms) - min(timestamp_ms) AS dwell_ms, -- From the first time to the last.
    count(*) AS detections, -- Times at which they are there.
    coalesce(
        sum(sqrt((x - previous_x) ** 2 + (y - previous_y) ** 2)), 0
    ) AS path_length, -- Length of their path, in widths of the frame.
    {
        'left': avg(box.left),
        'top': avg(box.top),
        'width': avg(box.width),
        'height': avg(box.height)
    } AS mean_bounding_box, -- The mean of their boxes, in ratios of the frame.
    any_value(camera) AS camera, -- The camera, where the key tells it.
    any_value(recorded_at)
    + to_milliseconds(min(timestamp_ms)) AS first_seen_at, -- On the clock, UTC.
    any_value(recorded_at)
    + to_milliseconds(max(timestamp_ms)) AS last_seen_at, -- On the clock, UTC.
    timezone(any_value(timezone), first_seen_at) AS first_seen_local, -- On the camera's clock.
    timezone(any_value(timezone), last_seen_at) AS last_seen_local -- On the camera's clock.
FROM steps
GROUP BY video, person_index
