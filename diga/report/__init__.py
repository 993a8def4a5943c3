"""From records to a report: statistics, tables, figures and the sentences the numbers support."""
