"""Log events of a worker: each is declared here once, with its text and its fields.

`logs.log_event` logs one; `docs/reference.md` has a table generated from these declarations.
Names and fields are stable: operators' alerts depend on them. Pure.
"""

from typing import Final

from stream_app.log_declaration import (
    BUCKET,
    DELIVERY,
    DELIVERY_LINES_PER_MINUTE_MAX,
    ERROR,
    MEMORY,
    OFFSETS,
    PARTITION,
    PROGRESS,
    STATE,
    WINDOW,
    LogEvent,
)

# --- the process -----------------------------------------------------------------------------

STARTING: Final = LogEvent(
    *("starting", "info"),
    "A worker starts, with this configuration.",
    "starting: stream-app %(version)s, process %(process)d, configuration %(config)s: "
    "group %(group)s, %(events_topic)s to %(receipts_topic)s on %(broker)s, S3 at %(endpoint)s",
    (
        *("version", "process", "config", "group", "broker", "events_topic", "receipts_topic"),
        *("endpoint", "region", "destinations", "window_seconds", "memory_max_mib"),
    ),
)
START_FAILED: Final = LogEvent(
    *("start-failed", "error"),
    "The worker cannot start; the message says what to do. In the text format it is printed as by "
    "any other command.",
    "%(mistake)s",
    ("status",),
    ("mistake",),
)
READY: Final = LogEvent(
    *("ready", "info"),
    "The worker is a member of the group and can write to S3.",
    "ready: %(counted)s, windows of %(window_seconds)d s, metrics and health: %(address)s",
    ("destinations", "window_seconds", "address"),
    ("counted",),
)
MONITORING_UNAVAILABLE: Final = LogEvent(
    *("monitoring-unavailable", "warning"),
    "The worker serves no metrics and health: its ports are in use, or it cannot listen on them.",
    "no metrics and health: %(reason)s; set [http] bind and port, or port = 0 for none",
    text_only=("reason",),
)
MONITORING_FAILED: Final = LogEvent(
    *("monitoring-failed", "error"),
    "The worker no longer serves metrics and health: a defect, report it.",
    "monitoring has failed; report it: %(code)s: %(error)s",
    ERROR,
)
STOPPING: Final = LogEvent(
    "stopping", "info", "The worker stops because of a signal.", "stopping: %(signal)s", ("signal",)
)
CRASHED: Final = LogEvent(
    *("crashed", "error"),
    "The worker must not go on and ends; nothing more is committed. See exit status 1.",
    "crashed; nothing more is committed: %(code)s: %(error)s",
    ERROR,
)
STOPPED: Final = LogEvent(
    *("stopped", "info"),
    "The worker has ended: its last message.",
    "stopped, status %(status)d",
    ("status",),
)
SUMMARY: Final = LogEvent(
    *("summary", "info"),
    "Work since the last summary, once a minute and at the end, and the present state, which the "
    "last summary omits.",
    "last %(seconds).0f s: %(events)d events, %(unmatched)d of them for no destination; "
    "%(delivered)d delivered, %(skipped)d skipped, %(failed)d failed, %(given_up)d given up; "
    "%(objects)d objects of %(bytes)d bytes, %(receipts)d receipts, "
    "%(failed_attempts)d failed attempts%(state)s",
    (*PROGRESS, *STATE),
    ("state",),
)
SUMMARY_STATE: Final = (
    ". Now: %(open_windows)d windows open, %(waiting)d objects waiting, %(held_mib).1f of "
    "%(bound_mib)d MiB held, %(unread)d offsets to read, %(hidden)d hidden by a transaction, "
    "lag %(lag)d, partitions without a response: %(unanswered)d"
)
"""The end of a summary's text, `state`, unless it is the last one."""
SUPPRESSED: Final = LogEvent(
    *("suppressed", "info"),
    "Number of messages suppressed in the minute before; `--log-level debug` suppresses none.",
    "suppressed in the minute from %(minute)s: %(counts)s",
    ("suppressed",),
    ("minute", "counts"),
)
LIBRARY: Final = LogEvent(
    *("library", "warning"),
    "A message of a library, which `logger` names, at the library's own level; an error of "
    "aiokafka without a traceback is a warning: it repeats the attempt until that succeeds.",
    "",
)

# --- partitions ------------------------------------------------------------------------------

ASSIGNED: Final = LogEvent(
    *("assigned", "info"),
    "The group has assigned these partitions to the worker.",
    "assigned: %(counted)s of %(topic)s: %(numbers)s",
    ("topic", "partitions", "numbers", "generation"),
    ("counted",),
)
REVOKED: Final = LogEvent(
    *("revoked", "info"),
    "A rebalance begins and may take any partition away; open windows are kept for those that "
    "come back.",
    "revoked: %(counted)s of %(topic)s: %(numbers)s",
    ("topic", "partitions", "numbers"),
    ("counted",),
)
TAKEN_OVER: Final = LogEvent(
    *("taken-over", "info"),
    "The worker reads a partition from its commit.",
    "partition %(topic)s/%(partition)d: taken over at offset %(offset)s, recorded closings: "
    "%(closings)d",
    (*PARTITION, "offset", "closings"),
)
KEPT: Final = LogEvent(
    *("kept", "info"),
    "A partition has come back and no other worker had it meanwhile: its windows go on.",
    "partition %(topic)s/%(partition)d: kept at offset %(offset)s, recorded closings: %(closings)d",
    (*PARTITION, "offset", "closings"),
)
REBUILT: Final = LogEvent(
    *("rebuilt", "error"),
    "A partition's state is dropped and read again from its commit: a batch, or parts of an "
    "object, were lost.",
    "partition forgotten and rebuilt from its commit: %(error)s",
    (*PARTITION, *ERROR),
)
LOG_TRUNCATED: Final = LogEvent(
    *("log-truncated", "error"),
    "A partition's log has lost records that the group has read: a broker has lost them, or the "
    "topic was created again. What was read is delivered; then the partition begins at the log's "
    "start.",
    "partition %(topic)s/%(partition)d: the log has lost records before offset %(offset)d, which "
    "the group has reached: a broker lost them, or the topic was created again; %(counted)s of "
    "recorded windows cannot be read again; the partition begins again at the log's start when "
    "all that was read is delivered",
    (*PARTITION, "offset"),
    ("counted",),
)
BEGUN_ANEW: Final = LogEvent(
    *("begun-anew", "warning"),
    "A partition whose log was truncated is read from the log's start.",
    "partition %(topic)s/%(partition)d: begun anew at offset %(offset)d, the start of its log",
    (*PARTITION, "offset"),
)
UNMARKED_COMMIT: Final = LogEvent(
    *("unmarked-commit", "error"),
    "Another program has committed for a partition in the workers' group: it is not read.",
    "partition %(topic)s/%(partition)d is not read: %(error)s; events before that offset may never "
    "have been delivered. Give the other client a group of its own, set the offset back if needed, "
    "and set [kafka] accept_unmarked_commits for one start",
    (*PARTITION, "offset", "error"),
)
DATA_LOSS: Final = LogEvent(
    *("data-loss", "error"),
    "Retention has deleted events before they were read.",
    "partition %(topic)s/%(partition)d: retention has deleted %(counted)s from %(first_offset)d on "
    "before a worker read there; keep records longer (retention.ms) or run more workers",
    (*PARTITION, *OFFSETS),
    ("counted",),
)
OFFSET_GAP: Final = LogEvent(
    *("offset-gap", "warning"),
    "Offsets are missing, and the broker does not respond whether retention has deleted them.",
    "partition %(topic)s/%(partition)d: expected offset %(first_offset)d, the batch starts at "
    "%(end_offset)d; the start of the log cannot be read: %(code)s: %(error)s; trying again",
    (*PARTITION, *OFFSETS, *ERROR),
)
UNDECODABLE: Final = LogEvent(
    *("undecodable", "error"),
    "A record batch cannot be decoded, or its broker cannot read it: its partition waits, the "
    "others continue.",
    "partition %(topic)s/%(partition)d waits: the record batch with offsets %(offsets)s cannot be "
    "decoded: %(error)s; it is fetched again, and passed over after %(seconds).0f s if its end is "
    "known",
    *((*PARTITION, *OFFSETS, "error", "seconds"), ("offsets",)),
)
DECODED: Final = LogEvent(
    *("decoded", "info"),
    "A record batch that could not be decoded can be: its partition continues.",
    "partition %(topic)s/%(partition)d: offset %(offset)d can be decoded",
    (*PARTITION, "offset"),
)
PASSED_OVER: Final = LogEvent(
    *("passed-over", "error"),
    "A record batch could not be decoded and was given up: every destination has a failed receipt.",
    "partition %(topic)s/%(partition)d: offsets %(first_offset)d to %(last_offset)d are passed "
    "over, since their record batch cannot be decoded: %(error)s; see their failed receipts",
    *((*PARTITION, *OFFSETS, "error"), ("last_offset",)),
)
FENCED: Final = LogEvent(
    *("fenced", "debug"),
    "Work of an earlier assignment is dropped; the partition's new owner does it.",
    "%(work)s dropped: %(error)s",
    (*PARTITION, "error"),
    ("work",),
)

# --- Kafka -----------------------------------------------------------------------------------

STALLED: Final = LogEvent(
    *("stalled", "warning"),
    "A partition stands still below the end of its log, and nothing holds it up: it is fetched "
    "again from where it stands.",
    "partition %(topic)s/%(partition)d: no progress for %(seconds).0f s, offsets %(first_offset)d "
    "to %(end_offset)d are to be read and no batch of them comes; fetched again from there",
    (*PARTITION, *OFFSETS, "seconds"),
)
COMMIT_READ_FAILED: Final = LogEvent(
    *("commit-read-failed", "warning"),
    "The group's commits cannot be read; the worker tries again.",
    "commits cannot be read back: %(code)s: %(error)s; trying again",
    ERROR,
)
GROUP_REFUSED: Final = LogEvent(
    *("group-refused", "warning"),
    "The broker does not let the worker's user take part in the group; the worker tries again each "
    "second.",
    "the group cannot be joined: %(code)s: %(error)s; let this user read the group and its topics "
    "(kafka-acls); trying again",
    ERROR,
    lines_max=2,
)
COMMIT_FAILED: Final = LogEvent(
    *("commit-failed", "warning"),
    "A commit has failed; the worker tries again, and windows wait.",
    "not committed: %(code)s: %(error)s; trying again",
    ERROR,
)
COMMIT_TOO_LARGE: Final = LogEvent(
    *("commit-too-large", "warning"),
    "The broker takes less metadata in a commit than `offset_metadata_bytes_max`, so fewer windows "
    "can wait for a destination that is away. The bound may become lower still, and more is tried "
    "again an hour after the last refusal.",
    "the broker refuses a commit as too large: from now on %(bytes_max)d bytes of metadata at "
    "most, so fewer windows can wait; set its offset.metadata.max.bytes to 4096 or more",
    ("bytes_max",),
)
BROKER_AWAY: Final = LogEvent(
    *("broker-away", "warning"),
    "The group's broker is unreachable: nothing can be committed.",
    "the group's broker (%(broker)s) is away; nothing can be committed",
    ("broker",),
)
LEADER_AWAY: Final = LogEvent(
    *("leader-away", "warning"),
    "The leaders of some partitions have not responded for longer than the session, though the "
    "group's broker may be well: nothing is read there.",
    "no response for %(counted)s, %(topic)s/%(partition)d the longest",
    ("partitions", *PARTITION),
    ("counted",),
)
LEADER_BACK: Final = LogEvent(
    *("leader-back", "info"),
    "Kafka responds for every partition again.",
    "Kafka responds for every partition again, after %(seconds).1f s",
    ("seconds",),
)
BROKER_UNREACHABLE: Final = LogEvent(
    *("broker-unreachable", "warning"),
    "Why no connection to a broker is possible while Kafka is away; the same once a minute.",
    "no connection to Kafka: %(error)s",
    ("error",),
)
CERTIFICATES_READ: Final = LogEvent(
    *("certificates-read", "info"),
    "The files of TLS to Kafka were read again; new connections use them.",
    "certificates for Kafka read again: %(files)s",
    ("files",),
)
CERTIFICATES_KEPT: Final = LogEvent(
    *("certificates-kept", "warning"),
    "The files of TLS to Kafka have changed and are unusable; the old ones stay.",
    "the old certificates for Kafka stay: %(error)s",
    ("error",),
)
SECRET_READ: Final = LogEvent(
    *("secret-read", "info"),
    "The file of a secret for Kafka was read again; new connections use it.",
    "secret for Kafka read again: %(files)s",
    ("files",),
)
SECRET_KEPT: Final = LogEvent(
    *("secret-kept", "warning"),
    "The file of a secret for Kafka has changed and is unusable; the old secret stays.",
    "the old secret for Kafka stays: %(error)s",
    ("error",),
)
TOKEN_RENEWED: Final = LogEvent(
    *("token-renewed", "info"),
    "There is a new token for logins to Kafka; connections use it when they log in next.",
    "new token for Kafka from %(provider)s, valid for %(seconds).0f s",
    ("provider", "seconds"),
)
TOKEN_KEPT: Final = LogEvent(
    *("token-kept", "warning"),
    "No new token for logins to Kafka can be got; the old one is used until it ends.",
    "the old token for Kafka from %(provider)s stays, valid for %(seconds).0f s more: %(error)s",
    ("provider", "seconds", "error"),
)
BROKER_BACK: Final = LogEvent(
    *("broker-back", "info"),
    "The group's broker is reachable again.",
    "the broker is back, after %(seconds).0f s",
    ("broker", "seconds"),
)
UNMATCHED: Final = LogEvent(
    *("unmatched", "warning"),
    "Events with this key are in no object and no receipt, since no destination takes it: the most "
    "frequent keys, once a minute.",
    "%(counted)s with the key %(record_key)s: no destination takes it (%(advice)s); correct the "
    "producer's key, or add a destination",
    ("record_key", "events", "nearest"),
    ("counted", "advice"),
)
TRANSACTION_OPEN: Final = LogEvent(
    *("transaction-open", "warning"),
    "A producer's transaction has been open for a minute: what lies behind its first event cannot "
    "be read, not even of other producers.",
    "partition %(topic)s/%(partition)d: a transaction that has been open for %(seconds).0f s hides "
    "%(counted)s from %(first_offset)d on; find it, and end it if its producer is gone: "
    "kafka-transactions.sh find-hanging, abort",
    (*PARTITION, "first_offset", "hidden", "seconds"),
    ("counted",),
)
TRANSACTION_ENDED: Final = LogEvent(
    *("transaction-ended", "info"),
    "`transaction-open` is over: the events are read.",
    "partition %(topic)s/%(partition)d: the transaction at offset %(first_offset)d has ended, "
    "after %(seconds).0f s",
    (*PARTITION, "first_offset", "hidden", "seconds"),
)
LAGGING: Final = LogEvent(
    *("lagging", "warning"),
    "More events wait in Kafka than were read in a minute: a backlog, or too few workers.",
    "%(unread)d offsets are to be read, and %(events)d events were read since the last summary",
    ("events", "unread"),
)
CAUGHT_UP: Final = LogEvent(
    *("caught-up", "info"),
    "`lagging` is over.",
    "caught up after %(seconds).0f s: %(unread)d offsets to read",
    ("events", "unread", "seconds"),
)

# --- memory ----------------------------------------------------------------------------------

MEMORY_PRESSURE: Final = LogEvent(
    *("memory-pressure", "warning"),
    "The memory bound is reached: no batch is taken until there is room. The worker slows down.",
    "%(held_mib).1f of %(bound_mib)d MiB are held: no batch is taken until there is room",
    MEMORY,
)
MEMORY_RELIEVED: Final = LogEvent(
    *("memory-relieved", "info"),
    "`memory-pressure` is over.",
    "%(held_mib).1f of %(bound_mib)d MiB are held: there is room again, after %(seconds).0f s, in "
    "%(waited_seconds).1f s of which no batch was taken",
    (*MEMORY, "seconds", "waited_seconds"),
)

# --- windows at their destinations -----------------------------------------------------------

WINDOW_CLOSED: Final = LogEvent(
    *("window-closed", "debug"),
    "A window has closed, and the broker has its closing.",
    "%(subject)s: closed, for %(counted)s",
    (*WINDOW, "destinations"),
    ("subject", "counted"),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
STORED: Final = LogEvent(
    *("stored", "info"),
    "An object was stored; its receipt follows.",
    "%(subject)s: %(counted)s at s3://%(bucket)s/%(key)s%(note)s",
    (*DELIVERY, "bucket", "key", "lines", "bytes", "attempts", "already_existed"),
    ("subject", "counted", "note"),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
UPLOAD_FAILED: Final = LogEvent(
    *("upload-failed", "warning"),
    "One of the first attempts of a window has failed; the worker tries again.",
    "%(subject)s: attempt %(attempts)d: %(code)s: %(error)s",
    (*DELIVERY, "attempts", *ERROR),
    ("subject",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
LATE: Final = LogEvent(
    *("late", "warning"),
    "A window has been retried for 5 seconds; a `retrying` receipt is published.",
    "%(subject)s: late, attempt %(attempts)d: %(code)s: %(error)s",
    (*DELIVERY, "attempts", *ERROR),
    ("subject",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
GIVEN_UP: Final = LogEvent(
    *("given-up", "error"),
    "A window is given up; a `failed` receipt names its events.",
    "%(subject)s: given up at attempt %(attempts)d: %(code)s: %(error)s",
    (*DELIVERY, "attempts", *ERROR),
    ("subject",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
BREAKER_OPENED: Final = LogEvent(
    *("breaker-opened", "warning"),
    "A destination's circuit breaker has opened: its windows wait, and one at a time probes.",
    "destination %(destination)s is broken: %(code)s: %(error)s; its windows wait",
    ("destination", *ERROR),
    lines_max=DELIVERY_LINES_PER_MINUTE_MAX,
)
BREAKER_CLOSED: Final = LogEvent(
    *("breaker-closed", "info"),
    "A destination's circuit breaker has closed, after `seconds`.",
    "destination %(destination)s is served again, after %(seconds).1f s",
    ("destination", "seconds"),
    lines_max=DELIVERY_LINES_PER_MINUTE_MAX,
)
FAILING: Final = LogEvent(
    *("failing", "warning"),
    "More than 1 % of a destination's events have failed in the last 10 minutes: they are in no "
    "object.",
    "destination %(destination)s is failing: no payload for %(failed)d of %(counted)s "
    "(%(share)s): %(error)s; correct its expression, then run stream-app redeliver --failed-events",
    ("destination", "events", "failed", "error"),
    ("counted", "share"),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
FAILING_ENDED: Final = LogEvent(
    *("failing-ended", "info"),
    "`failing` is over: less than 0.5 % of the last 10 minutes' events fail. Events that have "
    "failed stay so until they are redelivered.",
    "destination %(destination)s is no longer failing, after %(seconds).0f s: no payload for "
    "%(failed)d of %(counted)s",
    ("destination", "events", "failed", "seconds"),
    ("counted",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
RECEIPT_FAILED: Final = LogEvent(
    *("receipt-failed", "warning"),
    "A receipt could not be published; the worker tries again.",
    "%(subject)s: receipt, attempt %(attempts)d: %(code)s: %(error)s",
    (*DELIVERY, "attempts", *ERROR),
    ("subject",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)

RECEIPT_SHORTENED: Final = LogEvent(
    *("receipt-shortened", "warning"),
    "The receipts topic does not take the whole receipt: it was published with shorter error texts "
    "and, from `lists_end` on, without lists.",
    "%(subject)s: published a shortened receipt; its lists end before offset %(lists_end)s (none: "
    "only error texts are cut); raise the receipts topic's max.message.bytes",
    (*DELIVERY, "lists_end"),
    ("subject",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
RECEIPT_GIVEN_UP: Final = LogEvent(
    *("receipt-given-up", "error"),
    "The receipts topic does not take the receipt in its shortest form, and takes others: the "
    "window is settled without a receipt.",
    "%(subject)s: settled without a receipt, which would say %(receipt_status)s, %(matched)d "
    "matched, object %(key)s: %(code)s: %(error)s",
    (*DELIVERY, "receipt_status", "matched", "key", *ERROR),
    ("subject",),
    DELIVERY_LINES_PER_MINUTE_MAX,
)

# --- S3 --------------------------------------------------------------------------------------

NOT_ENCRYPTED: Final = LogEvent(
    *("not-encrypted", "error"),
    "S3 has stored an object without the encryption that `sse` or `kms_key_id` requests; logged "
    "once for each destination, and again when its options change.",
    "bucket %(bucket)s of %(destination)s: sse requests %(requested_encryption)s, but by S3's "
    "response the encryption is: %(encryption)s; remove sse, or use a server that has it",
    (*BUCKET, "requested_encryption", "encryption"),
)
REGION_LEARNED: Final = LogEvent(
    *("region-learned", "info"),
    "S3 responds that a bucket is in another region; requests go there from now on.",
    "bucket %(bucket)s is in region %(region)s, not in %(configured_region)s; requests go there "
    "from now on; set region",
    (*BUCKET, "region"),
    ("configured_region",),
)
REGION_UNKNOWN: Final = LogEvent(
    *("region-unknown", "info"),
    "S3 responds that a bucket is in another region, without its name.",
    "the region of bucket %(bucket)s: %(code)s: %(error)s",
    (*BUCKET, *ERROR),
    lines_max=DELIVERY_LINES_PER_MINUTE_MAX,
)
ROLE_REFRESH_FAILED: Final = LogEvent(
    *("role-refresh-failed", "warning"),
    "STS does not issue new credentials of a role; its present ones are valid for a while.",
    "role %(role)s cannot be assumed: %(error)s; its credentials end at %(expiry)s",
    ("role", *ERROR),
    ("expiry",),
)
CREDENTIALS_RENEWED: Final = LogEvent(
    *("credentials-renewed", "info"),
    "Other credentials for S3 were read from their source; requests use them from now on.",
    "new credentials for S3 read from %(source)s",
    ("source",),
)
CREDENTIALS_KEPT: Final = LogEvent(
    *("credentials-kept", "warning"),
    "The source of the credentials for S3 has become unusable; the old ones stay.",
    "credentials for S3 from %(source)s cannot be read again, the old ones stay: %(error)s",
    ("source", "error"),
)
CREDENTIALS_REFUSED: Final = LogEvent(
    *("credentials-refused", "warning"),
    "S3 refuses credentials, and their source has no others; once for each reading.",
    "S3 (%(endpoint)s) refuses the credentials from %(source)s: %(code)s: %(error)s; write valid "
    "ones there: a file is read again when it changes, the environment only at a start",
    ("endpoint", "source", *ERROR),
)
MULTIPART_ABORT_FAILED: Final = LogEvent(
    *("multipart-abort-failed", "warning"),
    "A multipart upload that is not continued could not be aborted: S3 bills its parts.",
    "upload %(upload)s of s3://%(bucket)s/%(key)s is not aborted: %(code)s: %(error)s; its parts "
    "stay until a lifecycle rule (AbortIncompleteMultipartUpload) or you remove them",
    (*BUCKET, "key", "upload", *ERROR),
    lines_max=DELIVERY_LINES_PER_MINUTE_MAX,
)
MULTIPART_BEGIN_FAILED: Final = LogEvent(
    *("multipart-begin-failed", "debug"),
    "A multipart upload may have been created; its id is unknown, so it is not aborted.",
    "%(key)s: not aborted, since the id of its upload is unknown: %(code)s: %(error)s",
    (*BUCKET, "key", *ERROR),
    lines_max=DELIVERY_LINES_PER_MINUTE_MAX,
)
CONNECTION_LOST: Final = LogEvent(
    *("connection-lost", "debug"),
    "A connection to S3 has ended under a request, which is repeated or logged as an attempt that "
    "failed.",
    "a connection has ended under a request: %(error)s",
    ERROR,
    lines_max=DELIVERY_LINES_PER_MINUTE_MAX,
)

# --- the configuration -----------------------------------------------------------------------

RELOADED: Final = LogEvent(
    *("reloaded", "info"),
    "The file has other destinations, which apply from each partition's next window on.",
    "%(config)s: from the next windows on %(counted)s: %(added)d added, %(changed)d changed, "
    "%(removed)d removed",
    ("config", "destinations", "added", "changed", "removed"),
    ("counted",),
)
RELOAD_FAILED: Final = LogEvent(
    *("reload-failed", "error"),
    "The file has mistakes, one message for each; the old destinations stay.",
    "not taken, the old destinations stay: %(mistake)s",
    ("config",),
    ("mistake",),
)
RELOAD_UNCHANGED: Final = LogEvent(
    *("reload-unchanged", "info"),
    "The file has the same destinations as before.",
    "%(config)s: the destinations have not changed",
    ("config",),
)
NEEDS_RESTART: Final = LogEvent(
    *("needs-restart", "warning"),
    "A table of the file has changed that is only read when a worker starts.",
    "%(config)s: [%(table)s] has changed; restart the worker to use it",
    ("config", "table"),
)
REDELIVERY_STARTED: Final = LogEvent(
    *("redelivery-started", "info"),
    "Somebody has started `stream-app redeliver` on the Inspector's page.",
    "redelivery of %(destination)s started from %(client)s: stream-app %(arguments)s",
    ("destination", "client", "arguments"),
)
REDELIVERY_ENDED: Final = LogEvent(
    *("redelivery-ended", "info"),
    "The command that was started on the Inspector's page has ended.",
    "redelivery of %(destination)s ended with status %(status)d",
    ("destination", "status"),
)
