"""The targets that are shipped, one file each; `zeroloss.target.SHIPPED` lists them."""
