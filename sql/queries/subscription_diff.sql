-- How the subscription that is there differs from what the code declares; null when there is none. Changes nothing.
select jobrunner.subscription_diff(%(name)s, %(spec)s)
