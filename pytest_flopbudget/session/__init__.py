"""One run: which budgets hold for which test, what was measured, what came of it."""
