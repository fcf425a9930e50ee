# tare. `make run` shows a container, `make test` tests everything; both install what they need.

export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

# The binaries that are shipped need nothing of the host. The flags are for them alone: with --target, build scripts and
# tests are built as usual. They are linked with musl, which starts twice as fast as glibc and keeps half the memory
# (docs/decisions/0013), where its standard library could be had; else with glibc.
# Debian's make does not give its exports to $(shell).
host = $(shell PATH='$(PATH)' scripts/target)
# Laid out by what a container's life needs (docs/decisions/0015).
static = RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static $(shell PATH='$(PATH)' scripts/layout $(host)) \
	$(if $(SYMBOLS),,-C link-arg=-Wl$(comma)--strip-all)"
comma := ,
binaries = $(CARGO_TARGET_DIR)/$(host)/release
# What the tests and the benchmark are pointed at.
tare = TARE_SHIM=$(binaries)/containerd-shim-tare-v2 TARE_CLI=$(binaries)/tare

.PHONY: help run build test test-vm check audit fuzz bench bench-vm peers setup clean

help:
	@echo 'make run      install what is needed, build, run a container through a private containerd'
	@echo 'make test     unit tests, laws, integration tests against every containerd that is there'
	@echo 'make test-vm  the same in an emulated guest with cgroup v2, systemd and AppArmor; FULL=1 for all of it'
	@echo 'make check    formatting, lints, documentation, laws'
	@echo 'make audit    licences, advisories and duplicates of the dependencies'
	@echo 'make fuzz     the fuzz targets, a minute each; needs a nightly compiler'
	@echo 'make bench    tare beside runc and crun, as a table'
	@echo 'make bench-vm the same in such a guest, counted in instructions: the ratios on cgroup v2'
	@echo 'make build    the two binaries, static: target/<target>/release'
	@echo 'make peers    unpack newer containerd, runc and crun into .cache/peers'
	@echo 'make clean    remove what was built'

run: build
	$(tare) cargo run --quiet --locked -p integration --bin showcase

build: setup
	TARE_COMMIT=$$(git describe --always --dirty 2>/dev/null || echo unknown) \
	$(static) cargo build --locked --release --target $(host) -p containerd-shim-tare-v2 -p tare
	@# What is not on disk yet would be counted as each process's own dirty memory.
	@sync $(binaries)/containerd-shim-tare-v2 $(binaries)/tare

test: build peers
	scripts/setup tests
	$(tare) cargo test --locked --workspace
	$(tare) scripts/each-peer cargo test --locked --workspace --test suite
	[ '$(FULL)' != 1 ] || $(tare) cargo test --locked -p integration --test users

test-vm: build
	scripts/setup tests vm
	$(tare) scripts/test-vm

check:
	scripts/setup tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --workspace --no-deps --document-private-items
	cargo test --locked --quiet -p tidy

audit:
	scripts/audit

fuzz:
	scripts/fuzz

bench: build peers
	scripts/setup bench
	$(tare) cargo run --quiet --locked --profile quick -p integration --bin bench

bench-vm: build peers
	scripts/setup bench vm
	$(tare) scripts/bench-vm

# A test run without peers is a smaller test run, not a failed one.
peers:
	scripts/peers || echo 'peers: none unpacked; the tests run against the installed containerd only'

setup:
	@scripts/setup

clean:
	cargo clean
