SELECT bidder, bid_count, starttime, starttime + INTERVAL '10 seconds' AS endtime
FROM (
  SELECT bidder, count(*) AS bid_count, date_bin(INTERVAL '10 seconds', date_time, TIMESTAMP '1970-01-01') AS starttime
  FROM bid
  GROUP BY 1, 3
)
