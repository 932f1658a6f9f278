"""Merging pLLMs into a new one: what is asked, and the handler that does it."""
