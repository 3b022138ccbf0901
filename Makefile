# Crossbill. The two commands a newcomer needs: `make demo` and `make test`. Each installs what it lacks.

SHELL     := bash
BIN       := build/crossbill
GO        := go
GOFILES   := $(shell git ls-files -co --exclude-standard '*.go' 2>/dev/null | grep -v '\.gen\.go$$')

# Debian packages. The edge's lab needs Linux; without it the demo runs on the software edge and needs PostgreSQL only.
PACKAGES_POSTGRES := postgresql
PACKAGES_LAB      := iproute2 iputils-ping ethtool bird2 iperf3
PACKAGES_TEST     := frr procps hledger nftables
PACKAGES_GENERATE := clang llvm libbpf-dev

# Tests whose name matches may not be skipped; .ci/run sets it.
FORBID_SKIPS :=

.PHONY: help demo run test soak soak-log bench-log bench-api bench-billing bench-edge check generate check-generated check-contract clean deps-demo deps-test deps-generate deps-contract $(BIN)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: deps-demo $(BIN) ## the main job, end to end, in under a minute
	$(BIN) demo --out build/demo

run: deps-demo $(BIN) ## the same system, seeded, left running in the foreground
	$(BIN) run --data-dir build/run

$(BIN):
	@mkdir -p build
	$(GO) build -o $(BIN) ./cmd/crossbill

test: deps-test check $(BIN) ## every check and every test, on a private PostgreSQL
	$(BIN) postgres exec --data-dir build/test-postgres --no-fsync -- $(GO) test -json -timeout 20m ./... | $(GO) run ./.ci/report -forbid-skips '$(FORBID_SKIPS)'

# How long `make soak` goes on.
SOAK := 30m

soak: deps-demo ## the edge's promise, to the byte, while everything is killed and cut for SOAK=30m; root on Linux
	$(GO) test ./cmd/crossbill -run '^TestPromise$$' -count=1 -v -timeout 0 -soak $(SOAK)

soak-log: deps-demo ## three processes append to one log for 30 s while one is killed and PostgreSQL is restarted twice
	$(GO) test ./events -run '^TestThreeProcesses$$' -count=1 -v -soak 30s

bench-log: deps-demo ## the log's speed beside what PostgreSQL does with the same rows; docs/performance.md
	$(GO) run ./cmd/bench-log $(BENCH_FLAGS)

bench-api: deps-demo ## the API's speed beside the least that could do the same; docs/performance.md
	$(GO) run ./cmd/bench-api $(BENCH_FLAGS)

bench-billing: deps-demo ## invoices per second beside the least that could do the same; docs/performance.md
	$(GO) run ./cmd/bench-billing $(BENCH_FLAGS)

bench-edge: deps-demo ## the edge's datapath beside the kernel's own; root on Linux; docs/performance.md
	@.ci/install nftables
	$(GO) run ./cmd/bench-edge $(BENCH_FLAGS)

check: check-generated check-contract ## the contract linted, gofmt, go vet, staticcheck, generated code is current
	@unformatted=$$(gofmt -l $(GOFILES)); if [ -n "$$unformatted" ]; then echo "not gofmt'ed: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

generate: deps-generate ## regenerate server, client and eBPF objects
	$(GO) generate ./...

check-generated: deps-generate
	@.ci/check-generated

check-contract: deps-contract # other people's tools on the contract: a linter, and a TypeScript client that compiles
	@.ci/contract/check

clean: ## remove what was built
	rm -rf build

deps-demo:
	@.ci/install $(PACKAGES_POSTGRES) $(if $(filter Linux,$(shell uname -s)),$(PACKAGES_LAB))

deps-test: deps-demo
	@.ci/install $(if $(filter Linux,$(shell uname -s)),$(PACKAGES_TEST))

deps-generate:
	@.ci/install $(if $(filter Linux,$(shell uname -s)),$(PACKAGES_GENERATE))

deps-contract: # any npm will do; Debian's is as good
	@command -v npm >/dev/null || .ci/install nodejs npm
