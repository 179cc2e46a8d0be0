"""The wheels that hosts need for their environments: fetched here once, and brought to them."""
