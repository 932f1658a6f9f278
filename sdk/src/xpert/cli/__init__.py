"""The command line: one group a file, output as tables for people or JSON for machines."""
