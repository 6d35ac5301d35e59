# Everything that CI and the README call. `make help` lists it.

CARGO ?= cargo
.DEFAULT_GOAL := help
.PHONY: help demo run engines test soak bench check

help: ## List what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: ## From nothing to three tenants, each in its own database and refused at its neighbours'
	@scripts/needs demo
	@$(CARGO) build --locked -p freehold
	@scripts/demo

run: ## freehold dev on this machine: PostgreSQL, control plane, API on http://127.0.0.1:8400
	@scripts/needs demo
	@$(CARGO) run --locked -p freehold -- dev

engines: ## Install what the tests run on: PostgreSQL 15 to 18, PgBouncer 1.18 and 1.24, faketime, clients of several languages
	@scripts/needs test

test: engines ## Every test, on real PostgreSQL 15 to 18 and PgBouncer 1.18 and 1.24
	@scripts/docker start 15 17 18 >/dev/null
	@command -v cargo-nextest >/dev/null || $(CARGO) install --locked cargo-nextest
	$(CARGO) test --doc --workspace --locked --quiet
	TMPDIR=$$(scripts/test-directory) $(CARGO) nextest run --workspace --locked

soak: engines ## Every kill and every failure at every step of every operation, and thousands of tenants, where `make test` takes a sample
	@command -v cargo-nextest >/dev/null || $(CARGO) install --locked cargo-nextest
	FREEHOLD_SOAK=1 $(CARGO) nextest run --locked --profile soak -p freehold \
		-E 'binary(fault) or test(/who_works_notices|tenants_are_spread|pgbench_notices/)'

bench: engines ## Side by side: the floor, Freehold, what people use today; a table, and JSON beside it
	$(CARGO) build --locked --release -p freehold -p freehold-bench
	target/release/freehold-bench

# Clippy and rustdoc share what they need of the dependencies; only `make test` compiles them to code.
check: ## Formatting, lints, documentation, licences and bans: what CI asks before the tests
	@scripts/needs check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked --debug cargo-deny
	$(CARGO) deny --locked check licenses bans sources
	@if command -v shellcheck >/dev/null; then shellcheck scripts/demo scripts/engines scripts/needs scripts/docker scripts/test-directory deploy/images/postgres/build deploy/images/postgres/build-vector deploy/images/postgres/freehold-postgres deploy/images/pooler/build deploy/images/pooler/freehold-pooler-health .ci/run; fi
