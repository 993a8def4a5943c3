"""The papers, one file each: a stage is a frozen model that can be called."""
