"""Without a GPU there is nothing to ask here."""

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
