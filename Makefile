# make test   runs every test; installs what they need first
# make dist   makes packages, tarballs, bills of materials and checksums in dist
# make demo   shows both daemons at work for some fifteen seconds
# make build  makes bin/logship and bin/healthd
# make bench  prints the tables of docs/performance.md
# make bench-peers  measures rsyslog and syslog-ng beside logship (as root)
# make faults runs the fault matrix and prints the figures of docs/reliability.md
# make pgo    profiles the hot path for the compiler: cmd/logship/default.pgo
# make check  vet, staticcheck, gofmt
# make fuzz   runs each fuzz target for FUZZTIME (default 1m)
# make soak   runs the end-to-end tests ROUNDS times (default 10), and the fault matrix with ten times the faults

SHELL := /bin/bash
GO ?= go
ROUNDS ?= 10
FUZZTIME ?= 1m
PEER_MESSAGES ?= 200000
RACE ?= $(shell test "$$($(GO) env CGO_ENABLED)" = 1 && command -v gcc >/dev/null && echo -race)
# The tests that compare with systemd's own library need its header and cgo.
TAGS ?= $(if $(CI),-tags sdjournal,$(shell test "$$($(GO) env CGO_ENABLED)" = 1 && command -v gcc >/dev/null && test -e /usr/include/systemd/sd-journal.h && echo -tags sdjournal))
STRICT := $(if $(CI),-strict)

.PHONY: all build dist test demo bench bench-peers faults pgo check fuzz soak setup clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

dist:
	@GO="$(GO)" deploy/packages/dist.sh

# What the tests need beyond Go. Says what is missing; the tests that need it
# are then skipped, which in CI is a failure.
setup:
	@test/setup/apt.sh machine faults node oracle brokers health browser packages || echo "setup: goes on without the packages above"
	@test/setup/npm.sh || echo "setup: goes on without the npm packages above"
	@test/setup/unpack.sh senders rabbitmq || echo "setup: goes on without the programs above"
	@test/setup/maven.sh || echo "setup: goes on without the jars above"
	@cd tools && CGO_ENABLED=0 $(GO) tool -n nfpm >/dev/null || echo "setup: goes on without nfpm" # built here, it costs no test its time

check:
	@test -z "$$(gofmt -l cmd internal test deploy)" || { echo "not gofmt-clean:"; gofmt -l cmd internal test deploy; exit 1; }
	$(GO) vet $(TAGS) ./...
	$(GO) tool staticcheck $(TAGS) ./...

test: setup check build
	@$(if $(RACE),,echo "no C compiler: the tests run without the race detector")
	@set -o pipefail; $(GO) test -json -pgo=off $(TAGS) $(RACE) -shuffle=on -timeout 14m ./... | $(GO) run ./test/report $(STRICT)
	@cd test/textparse && $(GO) vet ./... && $(GO) test $(RACE) ./...

demo: setup build
	@test/demo/demo.sh

bench: build
	@cd test/jsonscan && $(GO) test ./...
	@$(GO) run $(TAGS) ./test/bench

bench-peers: build
	@test/setup/senders.sh
	@$(GO) run ./test/bench -parts peers -n $(PEER_MESSAGES)

faults: setup
	@set -o pipefail; $(GO) test -json -parallel 2 -p 1 -count 1 -run 'Row[0-9]' ./internal/ship ./test/faults ./test/intake | $(GO) run ./test/faults/figures

# The benchmarks of the chain and of the reader are what a busy logship does.
pgo:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(GO) test -run '^$$' -bench 'Chain/logship' -benchtime 5s -o "$$dir/chain.test" -cpuprofile "$$dir/chain" ./internal/ship && \
	$(GO) test -run '^$$' -bench 'Read/.*/all|Merge' -benchtime 2s -o "$$dir/read.test" -cpuprofile "$$dir/read" ./internal/journal && \
	$(GO) tool pprof -proto "$$dir/chain" "$$dir/read" > cmd/logship/default.pgo

fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$pkg || exit 1; \
	  done; \
	done
	@cd test/textparse && $(GO) test -run '^$$' -fuzz FuzzPage -fuzztime $(FUZZTIME) -fuzzminimizetime 5x .

soak: build
	$(GO) test -count $(ROUNDS) -timeout 2h ./test/e2e
	SOAK=1 $(GO) test -timeout 2h ./test/faults

clean:
	rm -rf bin dist test/winston/node_modules
