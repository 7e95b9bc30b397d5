"""`trace`: how traffic goes to an address and port, hop by hop, and what drops it first."""
