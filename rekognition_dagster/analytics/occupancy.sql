-- A row a minute and a row an hour of a camera's recordings, for each zone, and without a zone for
-- the whole picture: people, how long they were there in all, the mean and the most at once, and
-- how many arrived. How far to trust it: `begun_mid_picture`, arrivals that first appear inside (a
-- door, or the rest of a broken track); `joined`, people whose track was lost for longer than `gap`
-- and joined again; `interpolated_share` of the detections of these people in these minutes.
-- per: day of starts_at
WITH places AS (
    SELECT recording, NULL::VARCHAR AS zone FROM recordings
    UNION ALL
    SELECT recording, name AS zone FROM zone_shapes
),
recorded AS (
    SELECT
        m.camera, p.zone, m.minute, m.minute_at, m.hour_at, sum(m.recorded_ms) AS recorded_ms
    FROM minutes AS m
    JOIN places AS p ON p.recording = m.recording
    GROUP BY ALL
),
present AS (
    SELECT m.camera, m.hour_at, m.minute_at, p.*
    FROM presence AS p
    JOIN minutes AS m ON m.recording = p.recording AND m.minute = p.minute
),
joined AS (
    SELECT DISTINCT recording, person_index FROM walks WHERE walk > 1
),
steps AS (
    SELECT camera, zone, minute, from_ms AS at_ms, 1 AS step FROM present
    UNION ALL
    -- one who is detected once is there for a moment
    SELECT camera, zone, minute, greatest(until_ms, from_ms + 1) AS at_ms, -1 AS step FROM present
),
levels AS (
    SELECT
        camera,
        zone,
        minute,
        sum(step) OVER (
            PARTITION BY camera, zone, minute
            ORDER BY at_ms, step
            ROWS UNBOUNDED PRECEDING
        ) AS level
    FROM steps
),
most AS (
    SELECT camera, zone, minute, max(level)::BIGINT AS most FROM levels GROUP BY ALL
),
recorded_periods AS (
    SELECT
        r.camera,
        r.zone,
        unnest([1, 60]) AS period_minutes,
        unnest([minute_at, hour_at]) AS starts_at,
        r.recorded_ms,
        coalesce(m.most, 0) AS most
    FROM recorded AS r
    LEFT JOIN most AS m
        ON
            m.camera IS NOT DISTINCT FROM r.camera
            AND m.zone IS NOT DISTINCT FROM r.zone
            AND m.minute = r.minute
),
present_periods AS (
    SELECT
        camera,
        zone,
        unnest([1, 60]) AS period_minutes,
        unnest([minute_at, hour_at]) AS starts_at,
        p.recording * 4294967296 + p.person_index AS person,
        until_ms - from_ms AS present_ms,
        arrives,
        begins_mid_picture,
        j.recording IS NOT NULL AS is_joined
    FROM present AS p
    LEFT JOIN joined AS j ON j.recording = p.recording AND j.person_index = p.person_index
),
there AS (
    SELECT DISTINCT camera, zone, hour_at, minute_at, minute, recording, person_index FROM present
),
filled AS (
    SELECT
        t.camera,
        t.zone,
        unnest([1, 60]) AS period_minutes,
        unnest([t.minute_at, t.hour_at]) AS starts_at,
        s.detections,
        s.interpolated
    FROM there AS t
    JOIN seen AS s
        ON
            s.recording = t.recording
            AND s.person_index = t.person_index
            AND s.minute = t.minute
),
shares AS (
    SELECT
        camera,
        zone,
        period_minutes,
        starts_at,
        sum(interpolated) / sum(detections) AS interpolated_share
    FROM filled
    GROUP BY ALL
),
periods AS (
    SELECT
        camera,
        zone,
        period_minutes,
        starts_at,
        sum(recorded_ms)::BIGINT AS recorded_ms,
        max(most) AS most
    FROM recorded_periods
    GROUP BY ALL
),
people AS (
    SELECT
        camera,
        zone,
        period_minutes,
        starts_at,
        count(DISTINCT person) AS people,
        sum(present_ms)::BIGINT AS present_ms,
        count(*) FILTER (arrives) AS arrivals,
        count(*) FILTER (begins_mid_picture) AS begun_mid_picture,
        count(DISTINCT person) FILTER (is_joined) AS joined
    FROM present_periods
    GROUP BY ALL
)
SELECT
    r.camera, -- The camera; null where none is known.
    r.zone, -- The zone; null for the whole picture.
    r.period_minutes::BIGINT AS period_minutes, -- 1 or 60.
    r.starts_at, -- When the period begins, UTC.
    timezone(z.timezone, r.starts_at) AS starts_local, -- When it begins by the camera's clock.
    r.recorded_ms / 1000 AS recorded_s, -- Seconds of it that were recorded.
    coalesce(p.people, 0) AS people, -- People who were there.
    coalesce(p.present_ms, 0) / 1000 AS person_seconds, -- Seconds that people were there, added up.
    coalesce(p.present_ms, 0) / nullif(r.recorded_ms, 0) AS mean, -- People there on average.
    r.most, -- Most people at once.
    coalesce(p.arrivals, 0) AS arrivals, -- People who came.
    coalesce(p.begun_mid_picture, 0) AS begun_mid_picture, -- Arrivals that first appear inside.
    coalesce(p.joined, 0) AS joined, -- People whose track was lost and joined again.
    f.interpolated_share -- Share of detections filled in.
FROM periods AS r
JOIN (SELECT DISTINCT camera, timezone FROM recordings) AS z
    ON z.camera IS NOT DISTINCT FROM r.camera
LEFT JOIN people AS p
    ON
        p.camera IS NOT DISTINCT FROM r.camera
        AND p.zone IS NOT DISTINCT FROM r.zone
        AND p.period_minutes = r.period_minutes
        AND p.starts_at = r.starts_at
LEFT JOIN shares AS f
    ON
        f.camera IS NOT DISTINCT FROM r.camera
        AND f.zone IS NOT DISTINCT FROM r.zone
        AND f.period_minutes = r.period_minutes
        AND f.starts_at = r.starts_at
