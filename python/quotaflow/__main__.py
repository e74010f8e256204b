"""`python -m quotaflow` is `quotaflow`."""

import sys

from quotaflow._cli import main

sys.exit(main())
