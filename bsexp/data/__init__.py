"""Data sets as arrays, and the order in which training sees them."""
