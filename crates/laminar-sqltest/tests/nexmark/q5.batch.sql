WITH counts AS (
  SELECT auction, count(*) AS num, starttime
  FROM (
    SELECT auction, date_bin(INTERVAL '2 seconds', date_time, TIMESTAMP '1970-01-01') - back AS starttime
    FROM bid
    CROSS JOIN (VALUES (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'), (INTERVAL '6 seconds'), (INTERVAL '8 seconds'))
      AS hops(back)
  )
  GROUP BY auction, starttime
)
SELECT c.auction, c.num, c.starttime, c.starttime + INTERVAL '10 seconds' AS endtime
FROM counts AS c
JOIN (SELECT starttime, max(num) AS maxn FROM counts GROUP BY starttime) AS m
  ON c.starttime = m.starttime AND c.num >= m.maxn
