"""Which other libraries does it fit into? One module each; importing this package imports none of them."""
