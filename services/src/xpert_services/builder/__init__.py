"""Building style spaces from exemplars: what is asked, and the handler that does it."""
