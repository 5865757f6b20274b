"""Two commits side by side: their trees, their workers, and what may stand between them."""
