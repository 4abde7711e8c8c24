-- A row a person and minute of the wall clock of a recording: detections, and how many of them are
-- interpolated.
SELECT
    s.recording,
    s.person_index,
    ((r.start_ms + s.at_ms) // 60000)::BIGINT AS minute,
    sum(s.detections)::BIGINT AS detections,
    sum(s.interpolated)::BIGINT AS interpolated
FROM halves AS s
JOIN recordings AS r ON r.recording = s.recording
GROUP BY ALL
