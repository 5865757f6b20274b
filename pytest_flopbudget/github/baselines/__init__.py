"""Where the report of a base comes from when it is not measured in the same job."""
