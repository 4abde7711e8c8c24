-- A row a video: people, faces, the busiest moment and how many people were in view then. Null
-- where the analysis has no results.
WITH analysed AS (
    SELECT
        video,
        coalesce(bool_or(operation = 'person_tracking'), false) AS people,
        coalesce(bool_or(operation = 'face_detection'), false) AS faces
    FROM jobs
    WHERE status = 'SUCCEEDED'
    GROUP BY video
),
people_at AS (
    SELECT video, timestamp_ms, count(DISTINCT person_index) AS people
    FROM person_detections
    GROUP BY video, timestamp_ms
),
people AS (
    SELECT
        video,
        arg_max(timestamp_ms, (people, -timestamp_ms)) AS busiest_ms,
        max(people) AS most_people_at_once
    FROM people_at
    GROUP BY video
),
identities AS (
    SELECT video, count(DISTINCT person_index) AS people, count(*) AS person_detections
    FROM person_detections
    GROUP BY video
),
faces_at AS (
    SELECT video, timestamp_ms, count(*) AS faces FROM face_detections GROUP BY video, timestamp_ms
),
faces AS (
    SELECT video, sum(faces)::BIGINT AS face_detections, max(faces) AS most_faces_at_once
    FROM faces_at
    GROUP BY video
)
SELECT
    v.video, -- The video, as s3://bucket/key or file:///path.
    v.duration_ms, -- How long the video is.
    coalesce(i.people, CASE WHEN a.people THEN 0 END) AS people, -- People who were there.
    coalesce(
        i.person_detections, CASE WHEN a.people THEN 0 END
    ) AS person_detections, -- Rows of person_detections.
    coalesce(
        f.face_detections, CASE WHEN a.faces THEN 0 END
    ) AS face_detections, -- Rows of face_detections.
    coalesce(
        f.most_faces_at_once, CASE WHEN a.faces THEN 0 END
    ) AS most_faces_at_once, -- Most faces in view at once.
    p.busiest_ms, -- The first moment at which most people were in view.
    coalesce(
        p.most_people_at_once, CASE WHEN a.people THEN 0 END
    ) AS most_people_at_once, -- How many they were.
    v.camera, -- The camera, where the key tells it.
    v.recorded_at, -- When the first frame was taken, UTC.
    v.recorded_local, -- The same on the camera's clock.
    v.recorded_at + to_milliseconds(p.busiest_ms) AS busiest_at -- The busiest moment, UTC.
FROM videos AS v
LEFT JOIN analysed AS a USING (video)
LEFT JOIN identities AS i USING (video)
LEFT JOIN people AS p USING (video)
LEFT JOIN faces AS f USING (video)
