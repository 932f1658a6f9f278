"""Explaining pLLMs in words: what is asked, and the handler that does it."""
