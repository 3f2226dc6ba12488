# Installing and packaging. Included by the Makefile.

# The program as it is installed, packaged and measured: without symbols, and written by cp. The page cache holds files
# written by cp in larger folios than those written by a linker, so that starting the program causes fewer page faults
# (docs/PERFORMANCE.md, "Start-up").
DIST := $(CARGO_TARGET_DIR)/dist
FLOWGATE := $(DIST)/flowgate
BUILT := $(CARGO_TARGET_DIR)/release/flowgate

# `make install CONNTRACK=yes` also installs the name conntrack, `SYMBOLS=yes` the symbols for debuggers and backtraces.
CONNTRACK ?= no
SYMBOLS ?= no
$(foreach switch,CONNTRACK SYMBOLS,$(if $(filter yes no,$($(switch))),,$(error $(switch)=$($(switch)): takes yes or no)))

# Debian's zsh looks for functions of packages in a separate directory.
ZSH_FUNCTIONS = $(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)

# Debian packages: cargo-deb builds them from what `install` puts below release/package (the list is in
# host/cli/Cargo.toml).
CARGO_DEB := $(CARGO_TARGET_DIR)/tools/bin/cargo-deb
CARGO_DEB_VERSION := 3.8.0
DEBS := $(CARGO_TARGET_DIR)/debian
STAGE := $(CARGO_TARGET_DIR)/release/package

# The published crates, and their dependencies.
PUBLISHED := names base privileges isolation model query netlink recording stock runtime pipeline sdk
COMPONENTS := host/stock/components
# `make publish-check VERIFY=yes` also compiles each package as it would be published.
VERIFY ?= no
$(if $(filter yes no,$(VERIFY)),,$(error VERIFY=$(VERIFY): takes yes or no))

.PHONY: strip install deb test-package components publish-check

# The part of `build` that follows cargo.
strip:
	@if [ ! "$(FLOWGATE)" -nt "$(BUILT)" ]; then \
	    mkdir -p "$(DIST)"; cd "$(DIST)"; \
	    objcopy --only-keep-debug "$(BUILT)" flowgate.debug; \
	    objcopy --strip-all --remove-section=.comment --add-gnu-debuglink=flowgate.debug "$(BUILT)" flowgate.stripped; \
	    cp flowgate.stripped flowgate.new; mv flowgate.new flowgate; rm flowgate.stripped; \
	fi
	@echo "$(FLOWGATE): $$(stat -c %s "$(FLOWGATE)") bytes"

install: ## into PREFIX (/usr/local), under DESTDIR; CONNTRACK=yes, SYMBOLS=yes; run `make build` before
	@[ -x "$(FLOWGATE)" ] || { echo "$(FLOWGATE) is missing: run \`make build\` first" >&2; exit 1; }
	@link="$(DESTDIR)$(PREFIX)/sbin/conntrack"; \
	if [ $(CONNTRACK) = yes ] && [ -e "$$link" ] && [ "$$(readlink "$$link")" != ../bin/flowgate ]; then \
	    echo "$$link is another program (of Debian's package conntrack?): remove it first" >&2; exit 1; \
	fi
	install -D -m 755 "$(FLOWGATE)" "$(DESTDIR)$(PREFIX)/bin/flowgate"
	@place="$(DESTDIR)$(PREFIX)"; share="$$place/share"; shopt -s nullglob; \
	make_file() { install -D -m 644 /dev/null "$$share/$$1"; "$(FLOWGATE)" "$${@:2}" > "$$share/$$1"; echo "$$share/$$1"; }; \
	put() { install -D -m 644 "$$1" "$$2"; echo "$$2"; }; \
	make_file man/man1/flowgate.1 man; \
	make_file bash-completion/completions/flowgate completions bash; \
	make_file fish/vendor_completions.d/flowgate.fish completions fish; \
	make_file zsh/$(ZSH_FUNCTIONS)/_flowgate completions zsh; \
	for file in README.md ARCHITECTURE.md docs/*.md docs/*.json; do put "$$file" "$$share/doc/flowgate/$${file##*/}"; done; \
	for file in examples/p{ipelines,olicy}/*.toml; do put "$$file" "$$share/doc/flowgate/$$file"; done; \
	for file in packaging/systemd/*.in; do \
	    unit="$$place/lib/systemd/system/$$(basename "$$file" .in)"; \
	    install -D -m 644 /dev/null "$$unit"; sed 's|@PREFIX@|$(PREFIX)|g' "$$file" > "$$unit"; echo "$$unit"; \
	done; \
	link() { mkdir -p "$$(dirname "$$2")"; ln -sfn "$$1" "$$2"; echo "$$2 -> $$1"; }; \
	if [ $(CONNTRACK) = yes ]; then \
	    link ../bin/flowgate "$$place/sbin/conntrack"; \
	    link ../man1/flowgate.1 "$$share/man/man8/conntrack.8"; \
	fi; \
	if [ $(SYMBOLS) = yes ]; then put "$(DIST)/flowgate.debug" "$$place/bin/.debug/flowgate.debug"; fi

$(CARGO_DEB):
	CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)/tools/build" $(CARGO) install cargo-deb --version $(CARGO_DEB_VERSION) --locked --root "$(CARGO_TARGET_DIR)/tools"
	rm -rf "$(CARGO_TARGET_DIR)/tools/build"

deb: build $(CARGO_DEB) ## the Debian packages flowgate and flowgate-conntrack, in target/debian
	rm -rf "$(STAGE)" "$(DEBS)"
	@$(MAKE) --no-print-directory install DESTDIR="$(STAGE)" PREFIX=/usr CONNTRACK=no SYMBOLS=no >/dev/null
	gzip -9n "$(STAGE)/usr/share/man/man1/flowgate.1"
	"$(CARGO_DEB)" -p flowgate --no-build --no-strip --output "$(DEBS)/"
	"$(CARGO_DEB)" -p flowgate --no-build --no-strip --output "$(DEBS)/" --variant conntrack

test-package: deb ## `make install`, and the Debian packages in a root made by debootstrap: install, run, upgrade, remove, purge
	$(call need,debootstrap --version && lintian --version,debootstrap lintian)
	tests/package/install.sh "$(CARGO_TARGET_DIR)"
	$(SUDO) env PATH="$$PATH:/usr/sbin:/sbin" tests/package/debian.sh "$(DEBS)" "$(CARGO_TARGET_DIR)/debootstrap"

# When flowgate-stock is published, the sources of the plugins are not next to it: the package contains them as
# components, which are not in git.
components: build
	rm -rf "$(COMPONENTS)"; mkdir "$(COMPONENTS)"
	@for module in "$(CARGO_TARGET_DIR)"/stock-plugins/wasm32-unknown-unknown/plugin/flowgate_plugin_*.wasm; do \
	    name=$${module##*flowgate_plugin_}; "$(BINDGEN)" component "$$module" -o "$(COMPONENTS)/$$name"; \
	done

# The components are not in git, so cargo treats them as uncommitted changes. Cargo reuses a package of the same version
# that it has unpacked or compiled before, so nothing of an earlier run may be left.
VERIFIED := $(CARGO_TARGET_DIR)/publish
publish-check: components ## whether the crates can be published; VERIFY=yes compiles them from their packages
	rm -rf "$(VERIFIED)" "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/-*/flowgate-*
	CARGO_TARGET_DIR="$(VERIFIED)" $(CARGO) publish --dry-run --allow-dirty --locked \
	    $(if $(filter no,$(VERIFY)),--no-verify) $(PUBLISHED:%=-p flowgate-%)
	rm -rf "$(VERIFIED)"
