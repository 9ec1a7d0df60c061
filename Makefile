# The two commands: `make up` and `make test`. Everything else is cargo and `picopay`.

# cargo may be installed and not on the PATH, as in a fresh CI machine.
export PATH := $(PATH):$(HOME)/.cargo/bin

# `make up PROFILE=dev` builds faster and runs slower.
PROFILE ?= release
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# What comes after `picopay up`: make up ARGS="--fresh --shards 4"
ARGS ?=

.PHONY: help up test console-test chaos grow upgrade ring protect smoke openapi observability patroni compose chart bench bench-full bench-pure instructions instructions-bin bench-bins setup check bins

help:
	@echo 'make up      start a cluster on this machine, with a user to charge (http://127.0.0.1:8080)'
	@echo '             ARGS="--fresh --shards 4" passes options; PICOPAY_GATEWAY__LISTEN=127.0.0.1:8081 moves it'
	@echo 'make test    format, lints, documentation, every test'
	@echo 'make console-test  drive the console in Chromium on a cluster of its own; pictures in target/console-test; installs both first'
	@echo 'make chaos   break a cluster under load for eight minutes and check every promise; SEED=7 MINUTES=2 to choose'
	@echo 'make grow    add a shard under load, move slots there, empty another, and check every promise; SEED=7 to choose'
	@echo 'make ring    send money round among 100 users for a minute while nodes, gateway and shards die: none is missing'
	@echo 'make upgrade replace an earlier release by this one under load, go back, and forwards again; FROM=v1.2 SEED=7 MINUTES=4 to choose'
	@echo 'make protect freeze a shard of two under load, offer three times too much, and check that nobody else notices; ARGS="--rounds 1"'
	@echo 'make patroni kill the primary of a shard under Patroni, or its agent alone, three times, under load; installs Patroni and etcd first'
	@echo 'make compose kill, pause and cut off every container of deploy/compose under load; SHORT=yes each once; needs a Docker engine'
	@echo 'make smoke   a handful of requests to the cluster of "make up", each checked'
	@echo 'make openapi try the OpenAPI document on it: two generated clients and schemathesis; installs them first'
	@echo 'make chart   render the Helm chart and check it with the programs themselves; installs Helm first; ARGS=--write renews the example'
	@echo 'make observability  try every alert and dashboard, with a real Prometheus and Alertmanager beside clusters under load'
	@echo 'make bench   measure it on this machine, in seven minutes: target/bench/report.html (make bench-full: half an hour)'
	@echo 'make bench-pure  only what needs no cluster: parse, decide, format, hash; and the instructions that a charge takes'
	@echo 'make instructions  count those, and fail when they are a tenth more than the repository says; installs valgrind first'
	@echo 'make setup   install what is missing: PostgreSQL, Redis (make up and make test do it too)'

# `exec`: signals reach the cluster itself, which then ends in order.
up: setup
	@cargo build --locked --profile $(PROFILE) --bin picopay --bin picopay-node --bin picopay-gateway
	@exec $(BIN)/picopay up $(ARGS)

# Twice as many tests at once as cores: most of them wait, for a server that starts or for a time limit. With three on two
# cores a third of all processor time was idle.
TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

# A test has servers that speak German, where that locale can be had. One drives the console in a browser.
test: setup check bins
	@deploy/german.sh
	@deploy/observability/install.sh
	@deploy/console/browser/install.sh
	@if cargo nextest --version > /dev/null 2>&1; then \
	    rm -f $(TARGET)/nextest/default/junit.xml; \
	    TMPDIR=$$(deploy/test-folder.sh) cargo nextest run --locked --workspace --test-threads $(TEST_THREADS); ended=$$?; \
	    deploy/slowest.sh $(TARGET); \
	    exit $$ended; \
	else \
	    cargo test --locked --workspace --lib --bins --tests --examples; \
	fi
	cargo test --locked --workspace --doc

# Of those tests, the ones of the page that `picopay console` serves.
console-test: setup bins
	@deploy/console/browser/install.sh
	@if cargo nextest --version > /dev/null 2>&1; then \
	    TMPDIR=$$(deploy/test-folder.sh) cargo nextest run --locked --workspace -E 'package(picopay-console) + (package(picopay) & test(/^console::/))'; \
	else \
	    cargo test --locked -p picopay-console && cargo test --locked -p picopay --test it console::; \
	fi

# What needs no cluster.
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

# Tests start these as processes.
bins:
	cargo build --locked --workspace --bins

# A cluster of its own; the same seed breaks it in the same way. ARGS="--faults node_frozen,redis_forged --nodes 2 --servers odd"
# chooses what the seed would. make chaos ARGS=--broken=skip-key-check shows that it can
# fail: it takes from the nodes what they rely on, a constraint of their databases.
MINUTES ?= 8

chaos: bench-bins
	@deploy/german.sh
	@exec $(BIN)/picopay-proofs chaos $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) $(ARGS)

# A cluster of its own, with 2,000,000 transactions; six minutes. make grow ARGS=--broken=skip-fence shows that it can fail.
grow: bench-bins
	@exec $(BIN)/picopay-proofs grow $(if $(SEED),--seed $(SEED)) $(ARGS)

# The long form of a test that is in "make test": two minutes.
ring: setup bins
	TMPDIR=$$(deploy/test-folder.sh) cargo test --locked --workspace --test it -- --ignored --nocapture ring::

# FROM: a tag, a branch or a commit; without it the newest tag, else the parent of the newest merge. It is built in
# target/upgrade, which stays. make upgrade ARGS=--broken=gateways-at-once shows that it can fail.
FROM ?=
upgrade: MINUTES = 4
upgrade: bench-bins
	@earlier=$$(deploy/earlier.sh $(PROFILE) $(FROM)) && \
	    exec $(BIN)/picopay-proofs upgrade --from "$$earlier" $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) $(ARGS)

# Clusters of its own; three rounds of about four minutes.
protect: bench-bins
	@exec $(BIN)/picopay-proofs protect $(ARGS)

# Against a gateway that runs: `make up` in another terminal, or ARGS="--url https://… --cacert ca.pem".
smoke:
	@cargo build --locked --profile $(PROFILE) --bin picopay-proofs
	@exec $(BIN)/picopay-proofs smoke $(ARGS)

# The same, with clients that two generators make of the OpenAPI document, and with schemathesis. ARGS="http://… key"
openapi:
	@exec gateway/tests/openapi/check.sh $(ARGS)

# "make test" has the same tests. Grafana's own types are a Python package, which it does not install.
observability: setup bins
	@deploy/observability/install.sh
	@deploy/observability/check-dashboards.sh
	TMPDIR=$$(deploy/test-folder.sh) cargo test --locked --workspace --test observability

# Not part of "make test": it installs packages, and Patroni takes its time. ARGS="--kills 1"
patroni: setup
	@deploy/patroni/install.sh
	@cargo build --locked --profile $(PROFILE) --workspace --bins
	@exec $(BIN)/picopay-proofs patroni $(ARGS)

# Needs no Kubernetes. ARGS=--write first writes deploy/kubernetes/example, and copies the rules of deploy/observability.
chart: setup bins
	@deploy/setup.sh python openssl
	@exec deploy/kubernetes/check.sh $(ARGS)

# Skipped, with a line that says so, where there is no Docker engine. PROGRAMS=build builds the programs by the Dockerfile.
compose: bins
	@SHORT=$(SHORT) PROGRAMS=$(PROGRAMS) SEED=$(SEED) deploy/compose/test.sh $(TARGET)/debug

# A cluster of its own, in a temporary folder; make bench ARGS="--out some/folder".
BENCH = $(BIN)/picopay-proofs bench --note commit=$(shell git describe --always --dirty 2> /dev/null || echo unknown)

bench: bench-bins
	@exec $(BENCH) $(ARGS)

bench-full: bench-bins
	@exec $(BENCH) --full $(ARGS)

# The parts that wait for nobody, without a cluster.
bench-pure: instructions-bin
	cargo bench --locked --workspace --bench pure
	@exec $(TARGET)/release/picopay-instructions count

# CI runs it: no neighbour disturbs a count. It is of the release build whatever PROFILE says.
INSTRUCTIONS = loadtest/parts/instructions.txt

instructions: instructions-bin
	@exec $(TARGET)/release/picopay-instructions check $(INSTRUCTIONS)

# With --workspace, so that the features and the build are those of everybody.
instructions-bin:
	@deploy/setup.sh valgrind
	cargo build --locked --release --workspace --bin picopay-instructions

bench-bins: setup
	@cargo build --locked --profile $(PROFILE) --workspace --bins

setup:
	@deploy/setup.sh
