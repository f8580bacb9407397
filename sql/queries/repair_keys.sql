-- Keys whose holder was deleted by hand: how many were mended.
select jobrunner.repair_keys_v1()
