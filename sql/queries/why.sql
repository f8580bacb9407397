-- Why a job is not running now, in one sentence.
select jobrunner.why(%(id)s)
