-- A row a person and half second: the row of `halves`, with the place on the ground, and how far they
-- moved: in metres where there is a ground plane, else in body heights.
WITH placed AS (
    SELECT
        h.*,
        r.aspect,
        h.x - h.dx AS last_x,
        h.y - h.dy AS last_y,
        g.h6 * x + g.h7 * y + g.h8 AS scale,
        (g.h0 * x + g.h1 * y + g.h2) / scale AS east,
        (g.h3 * x + g.h4 * y + g.h5) / scale AS north,
        g.h6 * last_x + g.h7 * last_y + g.h8 AS last_scale,
        (g.h0 * last_x + g.h1 * last_y + g.h2) / last_scale AS last_east,
        (g.h3 * last_x + g.h4 * last_y + g.h5) / last_scale AS last_north
    FROM halves AS h
    JOIN recordings AS r ON r.recording = h.recording
    LEFT JOIN grounds AS g ON g.recording = h.recording
)
SELECT
    * EXCLUDE (scale, last_x, last_y, last_scale, last_east, last_north),
    CASE WHEN step_ms IS NOT NULL THEN coalesce(
        sqrt((east - last_east) ** 2 + (north - last_north) ** 2),
        sqrt((dx * aspect) ** 2 + dy ** 2) / nullif(height, 0)
    ) END AS moved
FROM placed
