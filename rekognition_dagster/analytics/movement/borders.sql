-- A row a time at which a person crosses a piece of the border of a zone or a line: between two
-- detections, in proportion. `to_left` for one who looks from the piece's first point to its last.
-- `zone_borders` and `line_borders` have those of zones, and of lines.
WITH crossed AS (
    SELECT
        p.recording,
        p.person_index,
        e.shape,
        p.last_ms,
        p.timestamp_ms,
        (x2 - x1) * (last_y - y1) - (y2 - y1) * (last_x - x1) AS side_before,
        (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) AS side_after
    FROM positions AS p
    JOIN edges AS e ON e.recording = p.recording
    WHERE
        NOT p.starts
        AND least(x, last_x) <= greatest(x1, x2)
        AND greatest(x, last_x) >= least(x1, x2)
        AND least(y, last_y) <= greatest(y1, y2)
        AND greatest(y, last_y) >= least(y1, y2)
        AND (side_before < 0) <> (side_after < 0)
        AND ((x - last_x) * (y1 - last_y) - (y - last_y) * (x1 - last_x) < 0)
        <> ((x - last_x) * (y2 - last_y) - (y - last_y) * (x2 - last_x) < 0)
)
SELECT
    c.recording,
    c.person_index,
    w.walk,
    c.shape,
    last_ms + (timestamp_ms - last_ms) * side_before / (side_before - side_after) AS at_ms,
    side_after < 0 AS to_left,
    w.from_ms,
    w.until_ms
FROM crossed AS c
JOIN walks AS w
    ON
        w.recording = c.recording
        AND w.person_index = c.person_index
        AND c.timestamp_ms > w.from_ms
        AND c.timestamp_ms <= w.until_ms
