-- The subscriptions that want events of a type.
select jobrunner.listeners(%(type)s)
