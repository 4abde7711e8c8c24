-- A row an hour of a camera's clock in which it recorded: people in the picture, the most at once
-- and when, visits of zones, crossings of lines and encounters; the interpolated share of the
-- detections, and how many people first appear in the middle of the picture (a door, or the rest of
-- a broken track).
-- per: day of hour_at
SELECT
    a.camera, -- The camera; null where none is known.
    a.hour_at, -- When the hour begins, UTC.
    timezone(z.timezone, a.hour_at) AS hour_local, -- When it begins by the camera's clock.
    a.recorded_s, -- Seconds that were recorded.
    a.people, -- Tracks, a person of each video.
    a.person_seconds, -- Seconds that people were there, added up.
    a.most, -- Most people at once.
    a.busiest_at, -- The minute with the most, UTC.
    a.arrivals, -- People who first appear, or return after a gap.
    a.visits, -- Visits of zones.
    a.crossings, -- Crossings of lines.
    a.encounters, -- Encounters of two people.
    a.begun_mid_picture, -- Arrivals away from the picture's edge.
    a.interpolated_share -- Share of detections filled in.
FROM activity_periods AS a
JOIN (SELECT DISTINCT camera, timezone FROM recordings) AS z
    ON z.camera IS NOT DISTINCT FROM a.camera
WHERE a.hour_at IS NOT NULL
