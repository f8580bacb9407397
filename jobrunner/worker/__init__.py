"""Asyncio: the only floor with tasks, threads, sleeps and signals. claim → execute → settle, and the loops around them."""
