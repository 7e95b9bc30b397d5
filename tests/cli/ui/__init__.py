"""The page of `spiderpoolctl ui`."""
