# The example plugins, in five languages: `make examples`, or `make example-LANGUAGE` for those of one language. Their
# build tools come from the package registries, into the target directory; components are written to $(EXAMPLES).
# Included by the Makefile.

EXAMPLES := $(CARGO_TARGET_DIR)/examples
BINDGEN := $(CARGO_TARGET_DIR)/release/flowgate-bindgen
BINDINGS := $(CARGO_TARGET_DIR)/bindings
VENV := $(CARGO_TARGET_DIR)/venv
NPM := $(CARGO_TARGET_DIR)/npm
WIT := $(wildcard wit/*.wit)

# Directories with a test.toml.
EXAMPLE_SUITES := $(sort $(patsubst %/test.toml,%,$(wildcard examples/*/test.toml examples/*/*/test.toml)))

RUST_EXAMPLES := flow-log heavy heavy-tcp idle-tcp net-labels port-scan stale-udp top-talkers

.PHONY: examples example-rust example-c example-python example-javascript example-zig example-tests

examples: example-rust example-c example-python example-javascript example-zig ## the example plugins in all languages, in target/examples

example-tests: examples ## the example plugins on their fixtures
	"$(FLOWGATE)" plugin test $(EXAMPLE_SUITES)

# Installs Debian packages (second argument) if a command (first argument) fails.
define need
@$(1) >/dev/null 2>&1 || { \
    echo "installing $(2)"; \
    command -v apt-get >/dev/null || { echo "not Debian: please install $(2) yourself" >&2; exit 1; }; \
    $(SUDO) apt-get update -q </dev/null; \
    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(2) </dev/null; \
}
endef

# --- Rust: core modules, which are turned into components (the host could do so itself) ---

example-rust: build
	$(CARGO) build --profile plugin --target wasm32-unknown-unknown $(RUST_EXAMPLES:%=-p %)
	@mkdir -p $(EXAMPLES)
	@for name in $(RUST_EXAMPLES); do \
	    out=$(EXAMPLES)/$$name.wasm; [ $$name != heavy ] || out=$(EXAMPLES)/heavy-rust.wasm; \
	    module=$(CARGO_TARGET_DIR)/wasm32-unknown-unknown/plugin/$${name//-/_}.wasm; \
	    [ $$out -nt $$module ] || $(BINDGEN) component $$module -o $$out; \
	done

# --- C and Zig: bindings of the world `stage`, and Zig's compilers from PyPI ---

ZIG := $(VENV)/bin/python -m ziglang
export ZIG_LOCAL_CACHE_DIR := $(CARGO_TARGET_DIR)/zig-cache
# The reserved stack is the memory that every instance starts with; Zig's default is 16 MiB.
ZIG_LINK := --target=wasm32-wasi -O2 -s -mexec-model=reactor -Wl,-z,stack-size=65536 -I$(BINDINGS)

$(VENV)/made:
	$(call need,python3 -c 'import ensurepip',python3 python3-venv)
	python3 -m venv $(VENV)
	@touch $@

$(VENV)/zig: examples/zig/requirements.txt | $(VENV)/made
	$(VENV)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

$(BINDINGS)/stage.h: $(WIT) tools/bindgen/Cargo.toml | build
	$(BINDGEN) c --wit wit --world stage --out $(BINDINGS)
	@touch $@

$(BINDINGS)/stage.zig: $(BINDINGS)/stage.h $(VENV)/zig
	$(ZIG) translate-c $< -target wasm32-wasi -lc > $@.new
	@mv $@.new $@

example-c: $(EXAMPLES)/heavy-c.wasm $(EXAMPLES)/behind-nat.wasm

$(EXAMPLES)/heavy-c.wasm: SOURCE := examples/c/heavy/heavy.c
$(EXAMPLES)/heavy-c.wasm: examples/c/heavy/heavy.c
$(EXAMPLES)/behind-nat.wasm: SOURCE := examples/c/behind-nat/behind_nat.c
$(EXAMPLES)/behind-nat.wasm: examples/c/behind-nat/behind_nat.c
$(EXAMPLES)/heavy-c.wasm $(EXAMPLES)/behind-nat.wasm: examples/c/flowgate.h $(BINDINGS)/stage.h $(VENV)/zig | build
	@mkdir -p $(EXAMPLES)
	$(ZIG) cc $(ZIG_LINK) -Wall -Wextra -Werror $(SOURCE) $(BINDINGS)/stage.c $(BINDINGS)/stage_component_type.o -o $@.core
	$(BINDGEN) component $@.core -o $@
	@rm $@.core

example-zig: $(EXAMPLES)/heavy-zig.wasm $(EXAMPLES)/one-way.wasm

$(EXAMPLES)/heavy-zig.wasm: SOURCE := examples/zig/heavy/heavy.zig
$(EXAMPLES)/heavy-zig.wasm: examples/zig/heavy/heavy.zig
$(EXAMPLES)/one-way.wasm: SOURCE := examples/zig/one-way/one_way.zig
$(EXAMPLES)/one-way.wasm: examples/zig/one-way/one_way.zig
$(EXAMPLES)/heavy-zig.wasm $(EXAMPLES)/one-way.wasm: examples/zig/flowgate.zig $(BINDINGS)/stage.zig $(VENV)/zig | build
	@mkdir -p $(EXAMPLES)
	$(ZIG) build-obj -target wasm32-wasi -O ReleaseFast -fstrip -lc -femit-bin=$@.o \
	    --dep flowgate -Mroot=$(SOURCE) \
	    --dep bindings -Mflowgate=examples/zig/flowgate.zig -Mbindings=$(BINDINGS)/stage.zig
	$(ZIG) cc $(ZIG_LINK) $@.o $(BINDINGS)/stage.c $(BINDINGS)/stage_component_type.o -o $@.core
	$(BINDGEN) component $@.core -o $@
	@rm $@.core $@.o

# --- Python: componentize-py from PyPI, without any WASI import left ---

$(VENV)/python: examples/python/requirements.txt | $(VENV)/made
	$(VENV)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

example-python: $(EXAMPLES)/heavy-python.wasm $(EXAMPLES)/inventory.wasm

$(EXAMPLES)/heavy-python.wasm: SOURCE := examples/python/heavy/heavy.py
$(EXAMPLES)/heavy-python.wasm: examples/python/heavy/heavy.py
$(EXAMPLES)/inventory.wasm: SOURCE := examples/python/inventory/inventory.py
$(EXAMPLES)/inventory.wasm: examples/python/inventory/inventory.py
$(EXAMPLES)/heavy-python.wasm $(EXAMPLES)/inventory.wasm: examples/python/flowgate.py $(WIT) $(VENV)/python
	@mkdir -p $(EXAMPLES)
	$(VENV)/bin/componentize-py -q -d wit -w stage componentize --stub-wasi -p examples/python -p $(dir $(SOURCE)) $(basename $(notdir $(SOURCE))) -o $@

# --- JavaScript: componentize-qjs from npm, likewise ---

# The runtime of npm's 0.4.5 turns 64-bit numbers into doubles, which corrupts IPv6 addresses. That of 0.5.0, which so
# far only crates.io has, turns them into BigInt, and works with the tool of 0.4.5. `cargo info` downloads one crate
# without its dependencies.
QJS := 0.5.0
QJS_RUNTIME := $(NPM)/runtime-$(QJS).wasm
QJS_SHA256 := 1781cbe19b0426a008e0d8d1d13e5d3389d6675f4f0ec6bb6cb2d52213b8b97d

$(QJS_RUNTIME): | $(NPM)/made
	cd $(NPM) && $(CARGO) info --quiet componentize-qjs@$(QJS) >/dev/null
	@cp $${CARGO_HOME:-$$HOME/.cargo}/registry/src/*/componentize-qjs-$(QJS)/prebuilt/runtime-sync.wasm $@.new
	@echo "$(QJS_SHA256)  $@.new" | sha256sum --check --quiet
	@mv $@.new $@

$(NPM)/made: examples/javascript/package.json examples/javascript/package-lock.json
	$(call need,npm --version,nodejs npm)
	@mkdir -p $(NPM)
	cp $^ $(NPM)/
	cd $(NPM) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

example-javascript: $(EXAMPLES)/heavy-javascript.wasm $(EXAMPLES)/where.wasm

$(EXAMPLES)/heavy-javascript.wasm: SOURCE := examples/javascript/heavy/heavy.js
$(EXAMPLES)/heavy-javascript.wasm: examples/javascript/heavy/heavy.js
$(EXAMPLES)/where.wasm: SOURCE := examples/javascript/where/where.js
$(EXAMPLES)/where.wasm: examples/javascript/where/where.js
$(EXAMPLES)/heavy-javascript.wasm $(EXAMPLES)/where.wasm: examples/javascript/flowgate.js $(WIT) $(NPM)/made $(QJS_RUNTIME)
	@mkdir -p $(EXAMPLES)
	$(NPM)/node_modules/.bin/componentize-qjs -w wit -n stage -j $(SOURCE) --module-root examples/javascript --stub-wasi --runtime $(QJS_RUNTIME) -o $@
