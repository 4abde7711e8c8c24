-- A row a minute of a video in which somebody was there: people present, and faces in view at once.
WITH people AS (
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
    video,
    minute,
    coalesce(people, 0) AS people,
    coalesce(faces, 0) AS faces
FROM people
FULL JOIN faces USING (video, minute)
