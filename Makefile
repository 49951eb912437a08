# The two that matter: `make drill` proves a recovery, `make test` runs the tests.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Kubernetes version of the node image that is built here when no published one can be had.
KUBERNETES ?= v1.37.2
# Arguments for `make drill`, for example: make drill ARGS="--procedure manifest-edit"
ARGS       ?=
# Where test reports go.
REPORTS    ?= $(CURDIR)/reports
# How long `make fuzz` takes for each target.
FUZZTIME   ?= 10m
# How many runs of each `make bench` measures.
RUNS       ?= 10
# Ginkgo label filter for `make e2e`, for example: make e2e LABELS='!ha'
LABELS     ?= !soak && !engine && !matrix && (!crash && !turns || sample)

# Which part of `make crash`, for example: make crash KILLS='crash && single' (or ha, swap, move, edit: see e2e/crash_test.go)
KILLS      ?= crash
# How many minutes the suite of drills on real clusters may take.
MINUTES     = 75

# The suite of drills on real clusters; a label filter follows.
SUITE = go test -tags e2e -count=1 -timeout $$(($(MINUTES) + 5))m ./e2e -v -ginkgo.no-color -ginkgo.timeout $(MINUTES)m -ginkgo.junit-report='$(REPORTS)/e2e.xml' -ginkgo.label-filter

NODEIMAGE = go -C hack/nodeimage run . ensure --kubernetes $(KUBERNETES)

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/drill
	@mkdir -p bin
	go build -buildvcs=auto -o bin/drill ./drill

.PHONY: drill
drill: engine build ## Prove a recovery on a kind cluster made for it; brings up all that is missing
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" bin/drill run deployment-loss $(ARGS)

.PHONY: test
test: test-unit e2e ## Run the tests; of drills that are sabotaged, interrupted or played in other ways some, others each day; brings up all that is missing

.PHONY: test-unit
test-unit: ## Run the tests that need no container engine
	go vet ./...
	go vet -tags e2e ./...
	go test ./...
	go vet ./hack/testdata
	go -C hack/nodeimage vet ./...
	go -C hack/nodeimage test ./...

.PHONY: fuzz
fuzz: ## Fuzz what reads files that may be damaged, each target for FUZZTIME (10m); what is found is kept below testdata/fuzz
	@for target in ./pkg/etcd/boltfile:FuzzCheck ./pkg/etcd:FuzzRecord ./pkg/etcd:FuzzSidecar ./pkg/inventory:FuzzDecodable ./pkg/inventory:FuzzSurvey ./pkg/rehearsal:FuzzExpectations; do \
	  go test "$${target%:*}" -run '^$$' -fuzz "^$${target#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x; \
	done

.PHONY: damaged
damaged: ## Verify ten thousand snapshots, each damaged in another way, and print how many came to which answer
	go test -count=1 -v -run '^TestTenThousandMutants$$' ./pkg/inventory

.PHONY: e2e
e2e: engine build ## Run the tests on real kind clusters
	@mkdir -p '$(REPORTS)'
	@image="$$($(NODEIMAGE))" && export DRILL_NODE_IMAGE="$$image" && \
	  export DRILL_KUBE_APISERVER="$$(go -C hack/nodeimage run . program kube-apiserver --kubernetes $(KUBERNETES))" && \
	  go test -tags e2e -short -count=1 -timeout 45m ./pkg/cluster/kind && \
	  go test -tags e2e -count=1 -timeout 20m -run APIServer ./pkg/rehearsal && \
	  hack/e2e '$(LABELS)' '$(REPORTS)'

.PHONY: soak
soak: engine ## Drill one cluster ten times in a row
	@mkdir -p '$(REPORTS)'
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" $(SUITE) soak

.PHONY: matrix
matrix: MINUTES = 240
matrix: engine ## Restore in every way: each procedure in each mode, from either kind of snapshot, on one and on three control planes
	@mkdir -p '$(REPORTS)'
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" $(SUITE) matrix

.PHONY: sabotage
sabotage: engine ## Run the sabotaged drills alone: each fault must be caught by its checks
	@mkdir -p '$(REPORTS)'
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" $(SUITE) sabotage

.PHONY: crash
crash: MINUTES = 1440
crash: engine build ## Interrupt the making of clusters, and kill drill before, in and after every step, on one and on three control planes; takes many hours
	@mkdir -p '$(REPORTS)'
	@image="$$($(NODEIMAGE))" && export DRILL_NODE_IMAGE="$$image" && go test -tags e2e -count=1 -timeout 45m ./pkg/cluster/kind && $(SUITE) '$(KILLS)'

.PHONY: bench
bench: engine build ## Measure how long drills take the control plane away, as ratios, against the goals; takes two hours, or RUNS=3
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" go run ./hack/bench -runs $(RUNS) -dir '$(REPORTS)/bench'

.PHONY: bench-snapshots
bench-snapshots: build ## Measure drill on a snapshot of 1 GB beside etcd's own tools, as ratios, against the goals; needs no container engine
	go run ./hack/bench/snapshots measure -dir '$(REPORTS)/bench-snapshots'

.PHONY: crash-engine
crash-engine: MINUTES = 150
crash-engine: engine build ## Restart a container engine in the midst of drills; the engine is one of their own, which takes root
	@mkdir -p '$(REPORTS)'
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" $(SUITE) engine

.PHONY: mutants
mutants: engine ## Take out one check after the other, and see that unit tests and sabotage notice; takes half an hour
	@image="$$($(NODEIMAGE))" && DRILL_NODE_IMAGE="$$image" go run ./hack/mutants -sabotage

.PHONY: engine
engine: ## Make sure that a container engine answers; installs one on Debian and Ubuntu
	@hack/engine/up >/dev/null

.PHONY: engine-stop
engine-stop: ## Stop the container engine, if it was started by this project
	@hack/engine/down

.PHONY: node-image
node-image: engine ## Make sure that there is a node image, and print its name
	@$(NODEIMAGE)

.PHONY: lint
lint: ## Run the linters
	go tool -modfile=hack/tools/go.mod golangci-lint run ./...
	go -C hack/nodeimage tool -modfile='$(CURDIR)/hack/tools/go.mod' golangci-lint run --config '$(CURDIR)/.golangci.yaml' ./...

.PHONY: generate
generate: ## Write the generated documentation: the reference, the lessons and the hazards
	go run ./hack/docs docs

.PHONY: clean
clean: ## Remove what was built here; images and caches go with `go -C hack/nodeimage run . clean`
	rm -rf bin reports
