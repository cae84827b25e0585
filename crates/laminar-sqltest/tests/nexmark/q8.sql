-- New users: those who sell something in the window in which they joined.
SELECT p.id, p.name, p.window.start AS starttime
FROM (
  SELECT id, name, TUMBLE(INTERVAL '10' SECOND) AS window
  FROM person
  GROUP BY id, name, window
) AS p
JOIN (
  SELECT seller, TUMBLE(INTERVAL '10' SECOND) AS window
  FROM auction
  GROUP BY seller, window
) AS a
ON p.id = a.seller AND p.window = a.window
