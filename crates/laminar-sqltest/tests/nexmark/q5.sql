-- Hot items: the auctions with the most bids, of each window.
WITH counts AS (
  SELECT auction, count(*) AS num, HOP(INTERVAL '2' SECOND, INTERVAL '10' SECOND) AS window
  FROM bid
  GROUP BY auction, window
)
SELECT c.auction, c.num, c.window.start AS starttime, c.window.end AS endtime
FROM counts AS c
JOIN (SELECT window, max(num) AS maxn FROM counts GROUP BY window) AS m
  ON c.window = m.window AND c.num >= m.maxn
