"""`plan`: whether pods that are to come would get addresses."""
