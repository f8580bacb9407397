-- What is wrong just now, the worst first? Each row's hint shows more or mends it. Nothing is shown when all is well.
select a.severity, a.code, a.subject, a.message, a.hint
from jobrunner.v_attention a;
