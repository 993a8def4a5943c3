"""The only floor that knows a cluster and a tracking server exist."""
