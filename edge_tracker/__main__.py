import sys

from edge_tracker.cli import main

sys.exit(main())
