"""Events, the REST API and the pull-request comment."""
