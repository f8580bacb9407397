-- The server's clock, by which every age is told: the one here may be wrong.
select clock_timestamp()
