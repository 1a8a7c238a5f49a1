"""One module per neuron library; each imports its library when one of its neurons is made."""
