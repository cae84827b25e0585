CREATE TABLE ticks (counter BIGINT) WITH (connector = 'impulse', message_count = 1000000);

CREATE TABLE nowhere (counter BIGINT) WITH (connector = 'blackhole');

CREATE PIPELINE measure AS INSERT INTO nowhere SELECT counter FROM ticks WHERE counter % 2 = 0;
