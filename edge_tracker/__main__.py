import sys

from edge_tracker.cli.main import main

sys.exit(main())
