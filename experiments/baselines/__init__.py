"""The systems that the paper compares with, re-implemented from their papers. They are no part of the package."""
