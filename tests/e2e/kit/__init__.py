"""What the end-to-end tests are made of: programs under test, visitors, apps, and the network between them."""
