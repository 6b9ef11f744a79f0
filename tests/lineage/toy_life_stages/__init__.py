"""A life cycle in miniature: stages with the real names and file formats that compute next to nothing."""
