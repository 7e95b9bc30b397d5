"""The names and values of Alibaba Cloud that decisions need. Nothing else in core knows a cloud's name."""
