"""One folder per rental cloud, found by discovery; a driver holds no policy."""
