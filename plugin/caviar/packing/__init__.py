"""Which trials share a fleet: the packer, its cost model, and the machine's measured prices."""
