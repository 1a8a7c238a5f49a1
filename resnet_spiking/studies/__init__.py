"""Studies: the grid of runs and attacks that one file describes, run to the end whatever happens, and its results."""
