CREATE TABLE orders (id BIGINT, status TEXT, total DOUBLE, at TIMESTAMP)
WITH (
  connector = 'datagen', rows_per_second = 1000,
  'fields.id.kind' = 'sequence', 'fields.id.start' = 1,
  'fields.status.kind' = 'choice', 'fields.status.values' = 'new,paid,paid,sent',
  'fields.total.max' = 500, 'fields.total.decimals' = 2
);

SELECT * FROM orders LIMIT 5;
