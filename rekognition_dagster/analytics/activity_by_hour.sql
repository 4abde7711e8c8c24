-- A row an hour of a camera's clock in which it recorded: people in the picture, the most at once
-- and when, visits of zones, crossings of lines and encounters; the interpolated share of the
-- detections, and how many people first appear in the middle of the picture (a door, or the rest of
-- a broken track).
-- per: day of hour_at
SELECT
    a.camera,
    a.hour_at,
    timezone(z.timezone, a.hour_at) AS hour_local,
    a.recorded_s,
    a.people,
    a.person_seconds,
    a.most,
    a.busiest_at,
    a.arrivals,
    a.visits,
    a.crossings,
    a.encounters,
    a.begun_mid_picture,
    a.interpolated_share
FROM activity_periods AS a
JOIN (SELECT DISTINCT camera, timezone FROM recordings) AS z
    ON z.camera IS NOT DISTINCT FROM a.camera
WHERE a.hour_at IS NOT NULL
