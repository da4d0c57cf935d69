"""This project's own studies: what was trained, with what, and what came of it. Not part of the installed library."""
