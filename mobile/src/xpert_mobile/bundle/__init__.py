"""Bundles: what a phone gets from outside, in one folder whose manifest binds every file (docs/adr/0012-bundle.md)."""
