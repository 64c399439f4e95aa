"""What the applications' tests are made of: an example running as its reader runs it, and a person's browser. The rest
is tests/e2e/kit."""
