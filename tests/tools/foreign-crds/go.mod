// Where the tests take other projects' resource definitions from, as they were published.
module xpert.dev/tests/foreign-crds

go 1.26

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	github.com/ray-project/kuberay/ray-operator v1.5.0
)
