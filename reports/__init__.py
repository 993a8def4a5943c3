"""What to print: one module a table, each a function from a study's records to a table."""
