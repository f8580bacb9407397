"""People's ways in: each calls the functions of store and decides nothing by itself."""
