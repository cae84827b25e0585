CREATE TABLE visits_out (page TEXT, visitor BIGINT)
WITH (connector = 'filesystem', path = '/tmp/visits', type = 'sink', format = 'json', max_file_size = '64MB');

INSERT INTO visits_out VALUES ('/home', 1), ('/about', 2);

CREATE TABLE visits (page TEXT, visitor BIGINT, _path TEXT)
WITH (connector = 'filesystem', path = '/tmp/visits', type = 'source', format = 'json', include_metadata = true);

SELECT * FROM visits;
