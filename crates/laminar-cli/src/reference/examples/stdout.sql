CREATE TABLE ticks (counter BIGINT) WITH (connector = 'impulse', event_rate = 10, message_count = 20);

CREATE TABLE printed (counter BIGINT) WITH (connector = 'stdout', format = 'json');

CREATE PIPELINE print_ticks AS INSERT INTO printed SELECT counter FROM ticks;
