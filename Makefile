# Short words over Meson and Ninja. Everything is built below build/; `./try` and `./check` install what is missing first.
BUILD ?= build
PREFIX ?= /usr/local
# Below PREFIX. Meson's own choice depends on what else is installed, and may be a folder where neither ld.so nor pkg-config looks.
LIBDIR ?= lib
PYTHON ?= /usr/bin/python3

.PHONY: all deps check bench bench-flood bench-peers bench-guard bench-functions upgrade-soak fuzz lint install clean
all: $(BUILD)/build.ninja
	@tools/reconfigure $(BUILD)
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --prefix=$(PREFIX) --libdir=$(LIBDIR)

deps:                       # lists, then installs, what building and checking need (Debian and Ubuntu)
	tools/deps build check

check:
	./check

bench: all                  # prints its figures; nothing here is asserted by a test
	tools/deps build bench
	$(PYTHON) bench/run.py

bench-flood: all            # what a flood of handshakes does to others
	$(PYTHON) bench/flood.py

bench-peers: all            # beside other tunnels and proxies; QUICK=1: three minutes; PEERS=DIR: more of them
	tools/deps build peers
	$(PYTHON) bench/peers.py $(if $(QUICK),--quick)

bench-guard: all            # how many instructions records, messages and visitors take, against what was recorded
	bench/guard.py

bench-functions: all        # calls of functions in containers, beside what the engine and HTTP take
	tools/deps build functions
	tools/wheel >/dev/null
	.cache/python/venv/bin/python bench/functions.py

upgrade-soak: all           # twenty upgrades of a relay with 6,000 connections and 200 agents; SOAK="--connections N ...": less
	ADIT=$(BUILD)/adit $(PYTHON) tests/soak/upgrade.py $(SOAK)

fuzz:                       # each fuzzer for FUZZ_SECONDS (60)
	tools/fuzz

lint:
	tools/lint

install: all                # below PREFIX, libraries in its LIBDIR; DESTDIR, where given, goes before it
	meson configure $(BUILD) -Dprefix=$(PREFIX) -Dlibdir=$(LIBDIR)
	ninja -C $(BUILD)
	meson install -C $(BUILD) --no-rebuild
	[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

clean:
	rm -rf $(BUILD) build-* .cache
