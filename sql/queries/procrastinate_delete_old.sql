-- Some jobs that ended long ago, deleted: how many.
select jobrunner.procrastinate_delete_old_v1(%(hours)s, %(queue)s, %(statuses)s::text[]) as gone
