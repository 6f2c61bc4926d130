"""A study as one HTML page: everything is inside it, nothing is fetched."""
