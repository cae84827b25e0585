-- Bounded side input: bids with what a small table says of them.
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM (SELECT *, MOD(auction, 10) AS key FROM bid) AS b
JOIN side_input AS s ON b.key = s.key
