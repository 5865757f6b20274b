"""The `flopbudget` command, a module for each subcommand."""
