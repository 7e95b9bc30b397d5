"""spiderpoolctl: commands for operators. They print, and change nothing in a cluster or a cloud."""
