# What a maintainer does here. `make help` lists it.
SHELL := /bin/bash
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
.DEFAULT_GOAL := help
.PHONY: help tools build check fmt lint kubernetes testbed test explore demo playground bench image site generate verify

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

tools: ## install the Debian packages that build and tests need
	@tests/tools/install.sh

build: tools ## build every program
	cargo build --locked --workspace

check: ## compile everything, quickly
	cargo check --locked --workspace --all-targets

fmt: ## bring the sources into form
	cargo fmt --all

lint: tools ## format, clippy with warnings as errors, the arrows between crates, dependencies, links of the documents and of their site
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	tests/tools/arrows.sh
	tests/tools/deny.sh
	tests/tools/links.py
	tests/tools/site.py

image: ## the images of both programs, with buildah or docker, and an SBOM of each
	deploy/images/build.sh $(IMAGE_ARGS)

site: tools ## docs/ as a site, into target/site, or the folder that SITE names
	tests/tools/site.py $(or $(SITE),$(TARGET)/site)

generate: ## write the CRDs from the Rust types, the tables of hazards and metrics from the code, deploy/ from the chart
	cargo run --locked --quiet --package notrack-api --bin notrack-crds
	cargo run --locked --quiet --package notrack-core --bin notrack-hazards
	NOTRACK_WRITE_METRICS=1 cargo test --locked --quiet --package notrack-agent --package notrack-controller metrics::
	tests/tools/chart.sh

verify: ## fail where generated files drift
	cargo test --locked --quiet --package notrack-api
	cargo test --locked --quiet --package notrack-core --test hazards
	cargo test --locked --quiet --package notrack-agent --package notrack-controller metrics::
	tests/tools/chart.sh --check

kubernetes: tools ## build the Kubernetes that the cluster tests run on: once, some 12 minutes
	"$$(tests/tools/testbed.sh)" build

testbed: kubernetes ## the same, and all else that cluster tests need: Argo CD, and the version of notrack before this one
	tests/tools/argocd.sh
	tests/tools/previous.sh

# What else the cluster tests need is built while the first tests mostly wait; a test that comes before it is there waits for it.
test: lint kubernetes ## everything: lint, unit, property, snapshot, conformance, kernel and cluster tests
	cargo build --locked --workspace
	@(nice -n 19 tests/tools/argocd.sh && nice -n 19 tests/tools/previous.sh) >/dev/null & \
	status=0; \
	cargo test --locked --workspace --exclude notrack-cluster --no-fail-fast || status=$$?; \
	cargo test --locked --package notrack-cluster --no-fail-fast || status=$$?; \
	wait $$! || status=$$?; \
	exit $$status

explore: tools ## property tests on input that was never drawn before: ROUNDS=10 of them, each with the seed that repeats it
	@for round in $$(seq $(or $(ROUNDS),10)); do \
		export PROPTEST_RNG_SEED=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); \
		echo "PROPTEST_RNG_SEED=$$PROPTEST_RNG_SEED"; \
		cargo test --locked --quiet --package notrack-core --test model --test properties --test translation && \
		cargo test --locked --quiet --package notrack-netns --test model || exit 1; \
	done

demo: tools ## see the main job work on real traffic, without a cluster
	cargo build --locked --release --package notrack-agent --package notrack-demo
	$(TARGET)/release/notrack-demo $(DEMO_ARGS)

playground: tools ## a Kubernetes of three nodes on this machine with notrack on it, until Ctrl-C
	cargo build --locked --package notrack-agent --package notrack-controller --package notrack-cluster
	$(TARGET)/debug/notrack-playground

bench: tools ## ratios against the peers, on the real kernel
	cargo build --locked --release --package notrack-agent --package kubectl-notrack --package notrack-bench
	$(TARGET)/release/notrack-bench $(BENCH_ARGS)
	cargo bench --locked --package notrack-core
