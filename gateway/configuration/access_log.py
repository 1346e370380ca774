"""The access log: one JSON object for each request, as a format of HAProxy's."""

from __future__ import annotations

# What a client may have written, escaped for JSON before it is logged.
CLIENT_S = ("key", "model", "version", "method", "path", "why")


def _quoted(variable: str) -> str:
    """A variable of the transaction as a JSON string, "" where it is not set: HAProxy would write a dash."""
    return f'%[str(\\"),concat(,txn.{variable},\\")]'


LINE = (
    '{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]",'
    f'"id":{_quoted("id")},"key":{_quoted("key_log")},"model":{_quoted("model_log")},'
    f'"version":{_quoted("version_log")},"protocol":{_quoted("protocol")},"method":{_quoted("method_log")},'
    f'"path":{_quoted("path_log")},"status":%ST,"grpc_status":%[var(txn.grpc_status,null)],'
    f'"reason":{_quoted("why_log")},"bytes_in":%U,"bytes_out":%B,'
    '"seconds":%[date(0,us),sub(txn.began)]e-6,"seconds_server":%[var(txn.server_us,0)]e-6,'
    f'"server":{_quoted("server")},"client":"%ci"}}'
)
# Where no request came about: a client that speaks no TLS, or has no protocol in common with us.
ERROR_LINE = (
    '{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","id":"","key":"","model":"","version":"","protocol":"",'
    '"method":"","path":"","status":0,"grpc_status":null,"reason":"%[fc_err_str,regsub(^Success$,malformed),json(utf8s)]","bytes_in":0,'
    '"bytes_out":0,"seconds":0,"seconds_server":0,"server":"","client":"%ci"}'
)
