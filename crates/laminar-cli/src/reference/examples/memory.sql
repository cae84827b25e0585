CREATE TABLE scores (player TEXT, points BIGINT) WITH (connector = 'memory');

INSERT INTO scores VALUES ('ada', 3), ('grace', 5);

SELECT * FROM scores;
