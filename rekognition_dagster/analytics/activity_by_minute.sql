-- A row a minute of a video with a person or a face in it: people present, and faces in view at once.
-- Null where the analysis has no results.
WITH analysed AS (
    SELECT
        video,
        coalesce(bool_or(operation = 'person_tracking'), false) AS people,
        coalesce(bool_or(operation = 'face_detection'), false) AS faces
    FROM jobs
    WHERE status = 'SUCCEEDED'
    GROUP BY video
),
people AS (
    SELECT video, timestamp_ms // 60000 AS minute, count(DISTINCT person_index) AS people
    FROM person_detections
    GROUP BY video, minute
),
faces_at AS (
    SELECT video, timestamp_ms, count(*) AS faces FROM face_detections GROUP BY video, timestamp_ms
),
faces AS (
    SELECT video, timestamp_ms // 60000 AS minute, max(faces) AS faces
    FROM faces_at
    GROUP BY video, minute
)
SELECT
    video, -- The video, as s3://bucket/key or file:///path.
    minute, -- Which minute of the video, from 0.
    coalesce(p.people, CASE WHEN a.people THEN 0 END) AS people, -- People who were there.
    coalesce(f.faces, CASE WHEN a.faces THEN 0 END) AS faces, -- Most faces in view at once.
    v.camera, -- The camera, where the key tells it.
    v.recorded_at + to_minutes(minute) AS minute_at -- The minute's begin on the clock, UTC.
FROM people AS p
FULL JOIN faces AS f USING (video, minute)
LEFT JOIN analysed AS a USING (video)
LEFT JOIN videos AS v USING (video)
