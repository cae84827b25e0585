-- Highest bid of each window, with all that is known of it.
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid AS b
JOIN (
  SELECT max(price) AS maxprice, window.end AS endtime
  FROM (SELECT price, TUMBLE(INTERVAL '10' SECOND) AS window FROM bid)
  GROUP BY window
) AS m
ON b.price = m.maxprice AND b.date_time BETWEEN m.endtime - INTERVAL '10' SECOND AND m.endtime
