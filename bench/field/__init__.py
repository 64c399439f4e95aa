"""The field: everybody who brings a visitor to an app behind a relay, measured side by side."""
