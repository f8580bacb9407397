-- What nobody needs any more of what events leave: expired messages of the inbox (how many), sagas and walks that are over.
select jobrunner.drop_event_leftovers_v1(%(n)s)
