"""The closed loop: what people say to a checkpoint makes the next one, which is promoted if it is provably better.

It runs the other rooms' commands as child processes, and knows their files alone.
"""
