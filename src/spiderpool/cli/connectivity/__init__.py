"""`connectivity test`: pods on every node and network are made, put questions to each other, and are removed."""
