-- Moves a stream's cursor in the handler's transaction: did it stand where the batch began?
select jobrunner.advance_stream_v1(%(name)s, %(from_after)s, %(upto)s)
