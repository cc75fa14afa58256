"""Files and folders that are written whole or not at all, and what comes from elsewhere."""
