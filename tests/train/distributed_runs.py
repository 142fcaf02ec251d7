"""A program for torchrun: trains runs one after the other in the same processes. The runs' overrides are JSON."""

import json
import sys

import torch.distributed

from train.run import main

if __name__ == "__main__":
    for overrides in json.loads(sys.argv[1]):
        main(overrides)
        torch.distributed.barrier()  # rank 0 has written everything
