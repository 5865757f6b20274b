"""One report in, one text out: a module for each format."""
