"""PostgreSQL: each function is one file of sql/queries, takes the connection first, and never begins, commits or pools."""
