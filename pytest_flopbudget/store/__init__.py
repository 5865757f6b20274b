"""Report files, read and written whole or not at all."""
