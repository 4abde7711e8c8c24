-- A row an hour of a camera's clock in which it recorded, and a row a day (`hour_at` is null): what
-- activity_by_hour and activity_by_day report.
WITH recorded AS (
    SELECT camera, day, hour_at, sum(recorded_ms)::BIGINT AS recorded_ms
    FROM minutes
    GROUP BY GROUPING SETS ((camera, day, hour_at), (camera, day))
),
present AS (
    SELECT
        m.camera,
        m.day,
        m.hour_at,
        count(DISTINCT p.recording * 4294967296 + p.person_index) AS people,
        sum(p.until_ms - p.from_ms)::BIGINT AS present_ms,
        count(*) FILTER (p.arrives) AS arrivals,
        count(*) FILTER (p.begins_mid_picture) AS begun_mid_picture
    FROM presence AS p
    JOIN minutes AS m ON m.recording = p.recording AND m.minute = p.minute
    WHERE p.zone IS NULL
    GROUP BY GROUPING SETS ((m.camera, m.day, m.hour_at), (m.camera, m.day))
),
busiest AS (
    SELECT
        o.camera,
        m.day,
        m.hour_at,
        max(o.most) AS most,
        arg_max(o.starts_at, (o.most, -epoch(o.starts_at))) FILTER (o.most > 0) AS busiest_at
    FROM occupancy AS o
    JOIN (SELECT DISTINCT camera, minute_at, hour_at, day FROM minutes) AS m
        ON m.camera IS NOT DISTINCT FROM o.camera AND m.minute_at = o.starts_at
    WHERE o.zone IS NULL AND o.period_minutes = 1
    GROUP BY GROUPING SETS ((o.camera, m.day, m.hour_at), (o.camera, m.day))
),
moments AS (
    SELECT camera, 'visit' AS kind, entered_at AS began_at, entered_local AS began_local FROM zone_visits
    UNION ALL
    SELECT camera, 'crossing' AS kind, crossed_at AS began_at, crossed_local AS began_local
    FROM line_crossings
    UNION ALL
    SELECT camera, 'encounter' AS kind, began_at, began_local FROM encounters
),
counted AS (
    SELECT
        camera,
        began_local::DATE AS day,
        began_at
        - to_minutes(extract('minute' FROM began_local))
        - to_microseconds(extract('microsecond' FROM began_local)) AS hour_at,
        kind
    FROM moments
),
events AS (
    SELECT
        camera,
        day,
        hour_at,
        count(*) FILTER (kind = 'visit') AS visits,
        count(*) FILTER (kind = 'crossing') AS crossings,
        count(*) FILTER (kind = 'encounter') AS encounters
    FROM counted
    GROUP BY GROUPING SETS ((camera, day, hour_at), (camera, day))
),
filled AS (
    SELECT m.camera, m.day, m.hour_at, sum(s.interpolated) / sum(s.detections) AS interpolated_share
    FROM seen AS s
    JOIN minutes AS m ON m.recording = s.recording AND m.minute = s.minute
    GROUP BY GROUPING SETS ((m.camera, m.day, m.hour_at), (m.camera, m.day))
)
SELECT
    a.camera,
    a.day,
    a.hour_at,
    a.recorded_ms / 1000 AS recorded_s,
    coalesce(p.people, 0) AS people,
    coalesce(p.present_ms, 0) / 1000 AS person_seconds,
    coalesce(b.most, 0) AS most,
    b.busiest_at,
    coalesce(p.arrivals, 0) AS arrivals,
    coalesce(e.visits, 0) AS visits,
    coalesce(e.crossings, 0) AS crossings,
    coalesce(e.encounters, 0) AS encounters,
    coalesce(p.begun_mid_picture, 0) AS begun_mid_picture,
    f.interpolated_share
FROM recorded AS a
LEFT JOIN present AS p
    ON
        p.camera IS NOT DISTINCT FROM a.camera
        AND p.day = a.day
        AND p.hour_at IS NOT DISTINCT FROM a.hour_at
LEFT JOIN busiest AS b
    ON
        b.camera IS NOT DISTINCT FROM a.camera
        AND b.day = a.day
        AND b.hour_at IS NOT DISTINCT FROM a.hour_at
LEFT JOIN events AS e
    ON
        e.camera IS NOT DISTINCT FROM a.camera
        AND e.day = a.day
        AND e.hour_at IS NOT DISTINCT FROM a.hour_at
LEFT JOIN filled AS f
    ON
        f.camera IS NOT DISTINCT FROM a.camera
        AND f.day = a.day
        AND f.hour_at IS NOT DISTINCT FROM a.hour_at
