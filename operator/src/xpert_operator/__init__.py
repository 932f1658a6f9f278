"""XPerT on Kubernetes: personal LLMs as resources."""
