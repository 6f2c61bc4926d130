"""Tables of finished runs; reads nothing but results."""
