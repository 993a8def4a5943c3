"""One stage being carried out: its run, the one training loop, evaluation."""
