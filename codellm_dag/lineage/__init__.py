"""Where a number came from, why it differs from another, and how to make it again."""
