"""Programs to run and to read; not part of the installed package."""
