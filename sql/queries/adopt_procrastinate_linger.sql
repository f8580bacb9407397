-- This transaction may last, and idle, for as long as it wants; a server before 17 knows one of the two limits only.
select count(set_config(s.name, '0', true))
from pg_settings s
where s.name in ('idle_in_transaction_session_timeout', 'transaction_timeout')
