"""spiderpoolctl: commands for operators. They print; of a cluster they change what only people can know. No cloud."""
