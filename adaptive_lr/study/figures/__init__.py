"""The figures of a study, one to a file, all in one style."""
