-- A row an hour of the wall clock in which a camera recorded: people in the picture, the most at once and
-- when, visits of zones, crossings of lines and encounters; how much of what was seen is filled in,
-- and how many people began in the middle of the picture (a door, or the rest of a broken track).
-- per: day of hour_at
WITH recorded AS (
    SELECT m.camera, m.hour_at AS starts, sum(m.recorded_ms)::BIGINT AS recorded_ms
    FROM minutes AS m
    GROUP BY ALL
),
present AS (
    SELECT
        m.camera,
        m.hour_at AS starts,
        count(DISTINCT p.recording * 4294967296 + p.person_index) AS people,
        sum(p.until_ms - p.from_ms)::BIGINT AS present_ms,
        count(*) FILTER (p.arrives) AS arrivals,
        count(*) FILTER (p.begins_mid_picture) AS begun_mid_picture
    FROM presence AS p
    JOIN minutes AS m ON m.recording = p.recording AND m.minute = p.minute
    WHERE p.zone IS NULL
    GROUP BY ALL
),
busiest AS (
    SELECT
        o.camera,
        m.hour_at AS starts,
        max(o.most) AS most,
        arg_max(o.starts_at, (o.most, -epoch(o.starts_at))) FILTER (o.most > 0) AS busiest_at
    FROM occupancy AS o
    JOIN (SELECT DISTINCT camera, minute_at, hour_at, day FROM minutes) AS m
        ON m.camera IS NOT DISTINCT FROM o.camera AND m.minute_at = o.starts_at
    WHERE o.zone IS NULL AND o.period_minutes = 1
    GROUP BY ALL
),
visits AS (
    SELECT v.camera, v.entered_at - to_minutes(extract('minute' FROM v.entered_local))
        - to_microseconds(extract('microsecond' FROM v.entered_local)) AS starts, count(*) AS visits
    FROM zone_visits AS v
    GROUP BY ALL
),
crossings AS (
    SELECT c.camera, c.crossed_at - to_minutes(extract('minute' FROM c.crossed_local))
        - to_microseconds(extract('microsecond' FROM c.crossed_local)) AS starts, count(*) AS crossings
    FROM line_crossings AS c
    GROUP BY ALL
),
meetings AS (
    SELECT e.camera, e.began_at - to_minutes(extract('minute' FROM e.began_local))
        - to_microseconds(extract('microsecond' FROM e.began_local)) AS starts, count(*) AS encounters
    FROM encounters AS e
    GROUP BY ALL
),
filled AS (
    SELECT
        m.camera,
        m.hour_at AS starts,
        sum(s.interpolated) / sum(s.detections) AS interpolated_share
    FROM seen AS s
    JOIN minutes AS m ON m.recording = s.recording AND m.minute = s.minute
    GROUP BY ALL
)
SELECT
    a.camera,
    a.starts AS hour_at,
    timezone(z.timezone, a.starts) AS hour_local,
    a.recorded_ms / 1000 AS recorded_s,
    coalesce(p.people, 0) AS people,
    coalesce(p.present_ms, 0) / 1000 AS person_seconds,
    coalesce(b.most, 0) AS most,
    b.busiest_at,
    coalesce(p.arrivals, 0) AS arrivals,
    coalesce(v.visits, 0) AS visits,
    coalesce(c.crossings, 0) AS crossings,
    coalesce(e.encounters, 0) AS encounters,
    coalesce(p.begun_mid_picture, 0) AS begun_mid_picture,
    f.interpolated_share
FROM recorded AS a
JOIN (SELECT DISTINCT camera, timezone FROM recordings) AS z
    ON z.camera IS NOT DISTINCT FROM a.camera
LEFT JOIN present AS p ON p.camera IS NOT DISTINCT FROM a.camera AND p.starts = a.starts
LEFT JOIN busiest AS b ON b.camera IS NOT DISTINCT FROM a.camera AND b.starts = a.starts
LEFT JOIN visits AS v ON v.camera IS NOT DISTINCT FROM a.camera AND v.starts = a.starts
LEFT JOIN crossings AS c ON c.camera IS NOT DISTINCT FROM a.camera AND c.starts = a.starts
LEFT JOIN meetings AS e ON e.camera IS NOT DISTINCT FROM a.camera AND e.starts = a.starts
LEFT JOIN filled AS f ON f.camera IS NOT DISTINCT FROM a.camera AND f.starts = a.starts
