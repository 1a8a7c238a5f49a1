"""What lies on disk: files written whole or not at all, locks, the folders of results, what a result says of itself."""
