"""What tests use in place of torch where it is not installed: the parts of its DataLoader's protocol that datasets see.

torch's wheels for Linux bring 3 GB with CUDA, so CI does not install it.
"""
