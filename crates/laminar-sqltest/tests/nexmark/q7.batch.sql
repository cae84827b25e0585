SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid AS b
JOIN (
  SELECT max(price) AS maxprice, starttime + INTERVAL '10 seconds' AS endtime
  FROM (SELECT price, date_bin(INTERVAL '10 seconds', date_time, TIMESTAMP '1970-01-01') AS starttime FROM bid)
  GROUP BY starttime
) AS m
ON b.price = m.maxprice AND b.date_time BETWEEN m.endtime - INTERVAL '10 seconds' AND m.endtime
