"""XPerT's server side."""
