-- The state of one saga, and the jobs that would undo what it has done.
select g.state, g.compensation
from jobrunner.sagas g
where g.name = %(name)s
    and g.key = %(key)s
