# The commands of this repository. Each is one script; what they keep is in a cache folder outside the clone
# (LAMINAR_CACHE, by default ~/.cache/laminar), so a second run is fast and a clone stays clean.

.DEFAULT_GOAL := help
.PHONY: help install demo test lint e2e fuzz crash bench bench-nexmark soak

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

install: ## installs what this machine lacks (Debian packages); silent when nothing is missing
	@scripts/install.sh

demo: ## Laminar at work: generated orders through Kafka, filtered and transformed in SQL
	@scripts/install.sh build
	@scripts/demo.sh

test: install lint ## every test, against a real Kafka and PostgreSQL that it starts and stops
	@scripts/parts.sh run scripts/test.sh

lint: install ## format and clippy, warnings are errors
	@scripts/lint.sh

e2e: install ## only the tests that drive the binary from outside; ARGS='-k zombie' picks some
	@scripts/parts.sh run scripts/e2e.sh $(ARGS)

fuzz: install ## the decoders under libFuzzer, a minute each; FOR=… seconds, or RUNS=100000000 FOR=0 for a release
	@scripts/fuzz.sh $(or $(FOR),60)

crash: install ## the crash tests at full length: 1 M rows, 25 kills and one at each crash point, per setting
	@scripts/parts.sh run scripts/e2e.sh --full -k crash $(ARGS)

bench: install ## the benchmarks, in one table (release build, about 15 minutes the first time)
	@scripts/parts.sh run scripts/bench.sh

bench-nexmark: install ## the 23 queries of Nexmark: events a second of one core, and bytes of state; EVENTS=…
	@scripts/bench.sh nexmark

soak: install ## ten minutes of queries with bounded state: memory must stay flat; MINUTES=…
	@scripts/bench.sh soak
