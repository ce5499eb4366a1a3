"""The targets that are shipped, one file each; `chaos.target.SHIPPED` lists them."""
