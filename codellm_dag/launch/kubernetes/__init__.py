"""Stages as pods: manifests (`group`, `render`), and the launcher that follows them."""
