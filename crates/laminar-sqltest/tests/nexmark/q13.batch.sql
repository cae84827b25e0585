SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM (SELECT *, auction % 10 AS key FROM bid) AS b
JOIN side_input AS s ON b.key = s.key
